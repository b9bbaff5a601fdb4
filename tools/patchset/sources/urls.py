"""URLs of package indexes: without passwords where they are shown, with them where they are requested."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from toolkit.errors import SourceUnavailable

_USER = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^/\s]*)@", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return a text without the passwords of its URLs; over HTTP, a user without a password is taken for a token.

    >>> redacted("no answer from https://me:secret@index.example/simple/")
    'no answer from https://me:****@index.example/simple/'
    >>> redacted("https://token@index.example/simple/")
    'https://****@index.example/simple/'
    >>> redacted("ssh://git@host.example/repository")
    'ssh://git@host.example/repository'
    """

    def hide(match: re.Match[str]) -> str:
        scheme, (user, colon, _) = match[1], match[2].partition(":")
        if colon:
            return f"{scheme}://{user}:****@"
        return f"{scheme}://****@" if scheme.lower() in ("http", "https") else match[0]

    return _USER.sub(hide, text)


def with_credentials(url: str, index: str) -> str:
    """Return `url` with the name and password of `index`, if both are on one host and `url` has none of its own.

    >>> with_credentials("https://index.example/f.whl", "https://me:secret@index.example/simple/")
    'https://me:secret@index.example/f.whl'

    Raises:
        ValueError: one of them is no URL.
    """
    file, page = urlsplit(url), urlsplit(index)
    same_place = (file.scheme, _host(file)) == (page.scheme, _host(page))
    return urlunsplit(file._replace(netloc=page.netloc)) if same_place and "@" not in file.netloc else url


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


def local_path(location: str) -> Path | None:
    """Return the path that a `file:` URL or a plain path means, or None for a place on the network.

    Raises:
        SourceUnavailable: it looks like a URL and is none.
    """
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise SourceUnavailable(
            f"{redacted(location)} is no URL ({error})", remedy="set it right: python -m pip config debug"
        ) from error
    if parts.scheme.lower() == "file":
        return Path(unquote(parts.path))
    return None if "://" in location else Path(location).expanduser()
