"""A series follows upstream's releases: rebase, matrix, bisect, pin."""
