"""A project's folder: its components and bases, read from TOML files and written back."""
