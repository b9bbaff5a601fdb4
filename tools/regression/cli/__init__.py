"""The command line of the regression tools."""
