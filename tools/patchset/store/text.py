"""Text that git takes and gives as bytes: paths and messages, nearly always UTF-8.

A byte that is not UTF-8 becomes a lone surrogate (PEP 383), and the same byte again on its way back.
"""

from __future__ import annotations


def encode(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def decode(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def records(output: bytes) -> list[str]:
    """Return the records of a command's output under `-z`, each ended by a NUL."""
    return decode(output).split("\0")[:-1]
