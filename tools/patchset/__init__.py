"""A patch-set manager: versioned patch series on pinned upstreams, proved by hash at every step."""

__version__ = "0.1.0"
