"""Where the bytes of a base come from: a git submodule, or an archive of the package registry."""
