"""`python -m checkpoint`."""

from checkpoint.cli.main import entry

entry()
