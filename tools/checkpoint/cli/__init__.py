"""The command line of the checkpoint tools."""
