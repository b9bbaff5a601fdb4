"""Errors, progress, the console, TOML tables and files: what the three commands share."""

__version__ = "0.1.0"
