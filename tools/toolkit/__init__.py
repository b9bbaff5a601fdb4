"""Errors, progress, the console and TOML tables: what the three commands share."""

__version__ = "0.1.0"
