"""Frozen values: components, bases, patches and series, with their parsing and linting.

Nothing here runs a command or touches a file outside `patches/`.
"""
