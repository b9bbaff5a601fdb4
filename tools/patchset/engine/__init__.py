"""Computing on trees: pure functions from a series and the files that it touches to new files."""
