"""HTTP as the user's pip configuration wants it: certificates, proxy, retries, errors that name the remedy.

Every byte that an index sends comes through `exchange`. Plain http is allowed without further ado: the bytes are
compared with a recorded sha256.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Self, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import exceptions

from patchset import __version__
from patchset.sources.pipconfig import PipConfig
from patchset.sources.urls import redacted
from toolkit.errors import EnvironmentProblem, SourceUnavailable

T = TypeVar("T")

BACKOFF = 0.25
LONGEST_PAUSE = 30.0
TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})

_NETWORK = "check the network, or name another index: python -m pip config set global.index-url URL"


def exchange(
    request: Callable[[requests.Session], T],
    place: str,
    config: PipConfig,
    note: Callable[[str], None],
    *,
    backoff: float = BACKOFF,
    size: Callable[[], int] = lambda: 0,
) -> T:
    """Return what `request` returns of a session, after as many tries as pip makes; `note` gets each failure.

    The session itself repeats a request that gets no answer. An answer that breaks off is requested again here;
    after progress, which is a larger `size()`, the tries count from the start.

    Raises:
        SourceUnavailable: there is no answer, or none that is whole.
        EnvironmentProblem: the configuration names a certificate that does not exist.
    """
    policy = retries = _policy(config.retries, backoff, lambda reason: note(f"{redacted(place)}: {reason}"))
    most = size()
    with _open_session(config, policy) as session:
        while True:
            try:
                return request(session)
            except (OSError, exceptions.HTTPError) as error:
                cause = error.args[0] if isinstance(error, OSError) and error.args else error
                if not isinstance(cause, exceptions.ProtocolError | exceptions.ReadTimeoutError):
                    raise _unavailable(place, error) from error
                if size() > most:
                    retries, most = policy, size()
                try:
                    retries = retries.increment("GET", place, error=cause)
                except exceptions.MaxRetryError:
                    raise _unavailable(place, error) from error
                retries.sleep()


def _policy(tries: int, backoff: float, note: Callable[[str], None]) -> urllib3.Retry:
    """Return the policy of retries: each is noted, and what is the same at the next try is not tried again."""

    class Policy(urllib3.Retry):
        def increment(self, *args: Any, **options: Any) -> Self:
            retries = super().increment(*args, **options)
            if (response := options.get("response")) is not None:
                reason = f"HTTP {response.status} {response.reason}"
                # urllib3 would read the body, however long, to use the connection again.
                response.close()
            else:
                reason = _explain(options["error"])[0]
            note(f"{reason}; trying again in {retries.get_backoff_time():g} s")
            return retries

    return Policy(
        tries,
        other=0,
        status_forcelist=TRANSIENT,
        raise_on_status=False,
        backoff_factor=backoff,
        backoff_max=LONGEST_PAUSE,
        # An index does not decide how long we wait.
        respect_retry_after_header=False,
    )


class _Adapter(HTTPAdapter):
    """Sets certificates and proxy here, since environment variables would override the session's own."""

    def __init__(self, retries: urllib3.Retry, options: dict[str, Any], context: ssl.SSLContext | None = None) -> None:
        self._options = options
        self._context = context
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **{**options, **self._options})


def _open_session(config: PipConfig, retries: urllib3.Retry) -> requests.Session:
    """Return a session that reaches what pip reaches with this configuration.

    It trusts `cert` alone where that is set, else the system's certificates besides the bundled ones, as pip does.
    """
    for option, path in (("cert", config.cert), ("client-cert", config.client_cert)):
        if path is not None and not path.exists():
            raise EnvironmentProblem(
                f"pip's option {option} names {path}, which does not exist",
                remedy=f"set it right: python -m pip config set global.{option} FILE",
            )
    options: dict[str, Any] = {}
    if config.client_cert is not None:
        options["cert"] = str(config.client_cert)
    if config.proxy is not None:
        options["proxies"] = {"http": config.proxy, "https": config.proxy}
    session = requests.Session()
    session.headers["User-Agent"] = f"patchset/{__version__}"
    session.mount("http://", _Adapter(retries, options))
    if config.cert is None:
        context = ssl.create_default_context()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        session.mount("https://", _Adapter(retries, options, context))
    else:
        session.mount("https://", _Adapter(retries, {**options, "verify": str(config.cert)}))
    for host in config.trusted_hosts:
        unverified = _Adapter(retries, {**options, "verify": False})
        session.mount(f"https://{host}/", unverified)
        if ":" not in host:
            session.mount(f"https://{host}:", unverified)
    return session


def _unavailable(place: str, error: Exception) -> SourceUnavailable:
    """Return the error that names the place, what is wrong with it, and the remedy."""
    reason, remedy = _explain(error)
    return SourceUnavailable(f"{redacted(place)}: {reason}", remedy=remedy)


def _explain(error: Exception) -> tuple[str, str]:
    """Return the reason of an error, in the words of its innermost cause, and its remedy."""
    if isinstance(error, requests.HTTPError):
        status, remedy = error.response.status_code, _NETWORK
        if status in (401, 403, 407):
            remedy = "give the name and password that pip would use, in the index's URL or in ~/.netrc"
        elif status in TRANSIENT:
            remedy = "try again later"
        return f"HTTP {status} {error.response.reason}", remedy
    causes: list[Exception] = [error]
    while inner := _inner(causes[-1]):
        causes.append(inner)
    innermost = redacted(str(causes[-1]))

    def caused_by(kind: type[Exception]) -> bool:
        return any(isinstance(cause, kind) for cause in causes)

    if caused_by(exceptions.SSLError):
        remedy = "name your network's certificates: python -m pip config set global.cert FILE (or PIP_CERT=FILE)"
        return f"its certificate is not trusted ({innermost})", remedy
    if caused_by(exceptions.ProxyError):
        remedy = "check the proxy: python -m pip config get global.proxy, HTTPS_PROXY, NO_PROXY"
        return f"the proxy did not let it through ({innermost})", remedy
    if caused_by(exceptions.TimeoutError) and not caused_by(exceptions.NewConnectionError):
        return "no answer in time", "try again, or wait for longer: python -m pip config set global.timeout 60"
    return f"the connection failed ({innermost})" if caused_by(exceptions.HTTPError) else innermost, _NETWORK


def _inner(error: Exception) -> Exception | None:
    """Return the error that another one wraps: urllib3 and requests quote the whole URL, its cause does not."""
    return next((item for item in (getattr(error, "reason", None), *error.args) if isinstance(item, Exception)), None)
