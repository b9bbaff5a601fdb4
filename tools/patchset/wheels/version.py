"""The version of a patched wheel, in its name, its metadata and its own sense of itself."""

from __future__ import annotations

import re

from packaging.version import InvalidVersion, Version

from toolkit.errors import IntegrityError

# Sixteen million to the power of 1.7: two series of one base will not meet.
DIGITS = 10


def patched_version(version: str, digest: str) -> str:
    """Return `<version>+patchset.<hash>`, a local version (packaging specification "Version specifiers").

    `digest` is the series' sha256 in hex. A release that has a local version already keeps it in front.

    Raises:
        IntegrityError: `version` is none.
    """
    try:
        known = Version(version)
    except InvalidVersion as error:
        raise IntegrityError(str(error), remedy="check the wheel's file name") from error
    local = f"{known.local}." if known.local else ""
    return str(Version(f"{known.public}+{local}patchset.{digest[:DIGITS]}"))


def with_version(metadata: bytes, version: str) -> bytes:
    """Return METADATA with another `Version`.

    Raises:
        IntegrityError: it has none, or several.
    """
    header, blank, body = metadata.partition(b"\n\n")
    changed, count = re.subn(rb"(?m)^Version:[ \t]*[^\r\n]*", b"Version: " + version.encode(), header)
    if count != 1:
        raise IntegrityError(f"METADATA has {count} Version fields", remedy="the wheel is damaged: fetch it again")
    return changed + blank + body


def with_version_module(source: bytes, old: str, new: str) -> bytes:
    """Return a generated version module (as setuptools-scm writes it) with the new version and tuple.

    Raises:
        IntegrityError: it does not state `old`, so that upstream's code would still believe in it.
    """
    version = Version(new)
    fields = [*(str(part) for part in version.release)]
    if version.local:
        fields.append(repr(version.local))
    text, count = re.subn(
        rb"(?m)^((?:\w+ = )*)(['\"])%b\2" % re.escape(old.encode()), rb"\1\g<2>%b\2" % new.encode(), source
    )
    line = ("(" + ", ".join(fields) + ")").encode()
    text, tuples = re.subn(rb"(?m)^((?:\w+ = )*version_tuple = )\([^\n]*\)$", lambda match: match[1] + line, text)
    if count != 1 or tuples != 1:
        raise IntegrityError(
            f"the version module does not state version {old}",
            remedy="check `version-file` in component.toml against the release",
        )
    return text
