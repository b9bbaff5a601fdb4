"""Errors, progress, the console, TOML tables, files and processes: what the three commands share."""

__version__ = "0.1.0"
