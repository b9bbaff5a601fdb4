"""Decoding `GIT binary patch` payloads.

Format: git's diff.c (`emit_binary_diff_body`) and apply.c; deltas as in git's "pack-format" documentation,
section "Deltified representation".
"""

from __future__ import annotations

import base64
import re
import zlib

_PART = re.compile(rb"^(literal|delta) (\d+)\n((?:[A-Za-z][^\n]+\n)+)", re.MULTILINE)


def new_content(payload: bytes, old: bytes) -> bytes:
    """Return the content after a binary change of `old`.

    Raises:
        ValueError: the payload is broken, or its delta is based on other content.
    """
    match = _PART.search(payload)
    if match is None:
        raise ValueError("the binary patch has no content")
    kind, size, body = match.groups()
    try:
        data = zlib.decompress(b"".join(_line(line) for line in body.splitlines()))
    except (zlib.error, ValueError) as error:
        raise ValueError(f"the binary patch is damaged: {error}") from None
    if len(data) != int(size):
        raise ValueError(f"the binary patch is damaged: {len(data)} bytes, not {int(size)}")
    return data if kind == b"literal" else _delta(data, old)


def _line(line: bytes) -> bytes:
    first = line[:1]
    length = ord(first) - (ord("A") - 1 if first.isupper() else ord("a") - 27)
    return base64.b85decode(line[1:])[:length]


def _delta(delta: bytes, old: bytes) -> bytes:
    source, at = _size(delta, 0)
    target, at = _size(delta, at)
    if source != len(old):
        raise ValueError(f"the binary patch is for {source} bytes, the file has {len(old)}")
    out = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            start = length = 0
            for bit in range(4):
                if code & (1 << bit):
                    start |= delta[at] << (8 * bit)
                    at += 1
            for bit in range(3):
                if code & (0x10 << bit):
                    length |= delta[at] << (8 * bit)
                    at += 1
            out += old[start : start + (length or 0x10000)]
        elif code:
            out += delta[at : at + code]
            at += code
        else:
            raise ValueError("the binary patch holds a reserved instruction")
    if len(out) != target:
        raise ValueError(f"the binary patch gives {len(out)} bytes, not {target}")
    return bytes(out)


def _size(delta: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte = delta[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, at
