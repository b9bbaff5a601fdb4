"""A project's folder: which components and bases it has, read from TOML and written back."""
