"""Scripts that the upstreams' environments run: each imports what is installed there, and files of this folder."""
