"""`python -m regression`."""

from regression.cli.main import entry

entry()
