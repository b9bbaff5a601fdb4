"""`python -m patchset`."""

from patchset.cli.main import entry

entry()
