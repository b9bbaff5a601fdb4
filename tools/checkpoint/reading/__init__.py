"""A checkpoint's files, headers and values, read without torch."""
