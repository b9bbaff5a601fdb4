"""A patch-set manager: versioned patch series on pinned upstreams, proved by hash at every step."""

from toolkit import __version__ as __version__
