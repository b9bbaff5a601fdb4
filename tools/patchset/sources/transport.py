"""HTTP as the user's pip configuration wants it: certificates, proxy, retries, errors that name the remedy.

Plain http indexes are allowed without further ado: whatever they send is held against a recorded sha256.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from patchset.sources.pipconfig import PipConfig
from toolkit.errors import EnvironmentProblem, SourceUnavailable

if TYPE_CHECKING:
    import requests

BACKOFF = 0.25
LONGEST_PAUSE = 30.0

_TRY_LATER = {408, 425, 429}
_USER = re.compile(r"(?<=://)[^/\s]*@")


def open_session(config: PipConfig) -> requests.Session:
    """A session that reaches what pip reaches with this configuration.

    It trusts `cert` alone where that is set, else the system's certificates besides the bundled ones, as pip
    does. It does not retry: `pauses` is the one policy, for index pages and for downloads.
    """
    import ssl
    from collections.abc import Mapping

    import requests
    from requests.adapters import HTTPAdapter
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    from patchset import __version__

    for option, path in (("cert", config.cert), ("client-cert", config.client_cert)):
        if path is not None and not path.exists():
            raise EnvironmentProblem(
                f"pip's option {option} names {path}, which does not exist",
                remedy=f"set it right: python -m pip config set global.{option} FILE",
            )

    class Adapter(HTTPAdapter):
        """Sets certificates and proxy here, since environment variables would override the session's own."""

        def __init__(self, context: ssl.SSLContext | None, verify: str | bool | None) -> None:
            self._pool_options = {} if context is None else {"ssl_context": context}
            self._verify = verify
            super().__init__()

        def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
            super().init_poolmanager(connections, maxsize, block, **self._pool_options, **options)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, **self._pool_options, **options)

        def send(
            self,
            request: requests.PreparedRequest,
            stream: bool = False,
            timeout: float | tuple[float, float] | tuple[float, None] | None = None,
            verify: bool | str = True,
            cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
            proxies: Mapping[str, str] | None = None,
        ) -> requests.Response:
            if self._verify is not None:
                verify = self._verify
            if config.client_cert is not None:
                cert = str(config.client_cert)
            if config.proxy is not None:
                proxies = {"http": config.proxy, "https": config.proxy}
            return super().send(request, stream, timeout, verify, cert, proxies)

    session = requests.Session()
    session.headers["User-Agent"] = f"patchset/{__version__}"
    if config.cert is None:
        context = ssl.create_default_context()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        session.mount("https://", Adapter(context, verify=None))
    else:
        session.mount("https://", Adapter(None, verify=str(config.cert)))
    session.mount("http://", Adapter(None, verify=None))
    for host in config.trusted_hosts:
        unverified = Adapter(None, verify=False)
        session.mount(f"https://{host}/", unverified)
        if ":" not in host:
            session.mount(f"https://{host}:", unverified)
    return session


def pauses(retries: int, backoff: float) -> Iterator[float]:
    """Seconds to wait before each further try: doubled every time, and never more than half a minute."""
    return (min(backoff * 2**n, LONGEST_PAUSE) for n in range(retries))


def is_transient(error: OSError) -> bool:
    """Whether the same request may succeed a little later."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response.status_code >= 500 or error.response.status_code in _TRY_LATER
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def unavailable(asked: str, error: Exception) -> SourceUnavailable:
    """`error` in the user's words: what was asked, what came of it, and what to do about that."""
    import requests

    shown = redacted(asked)
    remedy = "check the network, or name another index: python -m pip config set global.index-url URL"
    if isinstance(error, requests.exceptions.SSLError):
        what = f"its certificate is not trusted ({_cause(error)})"
        remedy = "name your network's certificates: python -m pip config set global.cert FILE (or PIP_CERT=FILE)"
    elif isinstance(error, requests.exceptions.ProxyError):
        what = f"the proxy did not let it through ({_cause(error)})"
        remedy = "check the proxy: python -m pip config get global.proxy, HTTPS_PROXY, NO_PROXY"
    elif isinstance(error, requests.Timeout):
        what = "no answer in time"
        remedy = "try again, or wait for longer: python -m pip config set global.timeout 60"
    elif isinstance(error, requests.HTTPError):
        status = error.response.status_code
        what = f"HTTP {status} {error.response.reason}"
        if status in (401, 403, 407):
            remedy = "give the name and password that pip would use, in the index's URL or in ~/.netrc"
        elif is_transient(error):
            remedy = "try again later"
    elif isinstance(error, requests.ConnectionError):
        what = f"the connection failed ({_cause(error)})"
    else:
        what = without_users(str(error))
    return SourceUnavailable(f"{shown}: {what}", remedy=remedy)


def _cause(error: BaseException) -> str:
    """The innermost reason: the outer ones repeat the URL, with its password."""
    reason: object = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (arg for arg in getattr(reason, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return inner if isinstance(inner, str) and inner else str(reason)
        reason = inner


def redacted(url: str) -> str:
    """`url` without its password; a user without a password is taken for a token, as pip takes it.

    >>> redacted("https://me:secret@index.example/simple/")
    'https://me:****@index.example/simple/'
    >>> redacted("https://token@index.example/simple/")
    'https://****@index.example/simple/'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return without_users(url)
    # In `ssh://git@host/` the user is no secret: the key is.
    if "@" not in parts.netloc or (parts.password is None and parts.scheme not in ("http", "https")):
        return url
    host = parts.netloc.rpartition("@")[2]
    user = "" if parts.password is None else f"{quote(unquote(parts.username or ''))}:"
    return urlunsplit(parts._replace(netloc=f"{user}****@{host}"))


def without_users(text: str) -> str:
    """`text`, with whoever stands in its URLs left out: what libraries say quotes URLs whole.

    >>> without_users("no answer from https://me:secret@index.example/simple/")
    'no answer from https://****@index.example/simple/'
    """
    return _USER.sub("****@", text)


def with_credentials(url: str, index: str) -> str:
    """`url`, with the name and password of `index` where both are on one host and `url` has none of its own.

    >>> with_credentials("https://index.example/f.whl", "https://me:secret@index.example/simple/")
    'https://me:secret@index.example/f.whl'
    """
    file, page = urlsplit(url), urlsplit(index)
    same_place = (file.scheme, _host(file)) == (page.scheme, _host(page))
    if "@" in file.netloc or not same_place:
        return url
    return urlunsplit(file._replace(netloc=page.netloc))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


def local_path(location: str) -> Path | None:
    """The path that a `file:` URL or a plain path means; None for what has to be asked over the network.

    Raises SourceUnavailable for what looks like a URL and is none.
    """
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise SourceUnavailable(
            f"{redacted(location)} is no URL ({error})",
            remedy="set it right: python -m pip config debug",
        ) from error
    if parts.scheme.lower() == "file":
        return Path(url2pathname(parts.path))
    if "://" in location:
        return None
    return Path(location).expanduser()
