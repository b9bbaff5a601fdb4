"""The user's pip configuration, as far as it says where packages come from and how to reach them.

The files are read as pip's documentation describes (topic "Configuration"), not through `pip config list`: an
environment need not have pip in it (`python -m venv --without-pip`, and other installers leave it out), and a
subprocess costs 0.3 s against some 15 ms.

Order, the later one wins: global files, user files, the file of the environment (`sys.prefix`), the file that
`PIP_CONFIG_FILE` names; then, whatever file it stands in, section `[download]` over `[global]`; then `PIP_*`
variables. Where `PIP_CONFIG_FILE` names a file, the user's files are not read; where it is `os.devnull`, none
is. An empty value takes back what an earlier file says of the same section, and counts for nothing otherwise.
"""

from __future__ import annotations

import configparser
import locale
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from toolkit.errors import EnvironmentProblem

_TRUE = {"y", "yes", "t", "true", "on", "1"}
_FALSE = {"n", "no", "f", "false", "off", "0"}
_ALIASES = {"pypi-url": "index-url", "default-timeout": "timeout"}


@dataclass(frozen=True)
class PipConfig:
    """The options that pip would use; the defaults are pip's.

    `index_url` is None where the user has set none: then the registry client's own default is used.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: Path | None = None
    client_cert: Path | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: float = 15.0
    retries: int = 5


class _Parser(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        name = optionstr.lower().replace("_", "-").removeprefix("--")
        return _ALIASES.get(name, name)


def load() -> PipConfig:
    """Return the configuration of the user who runs this process.

    Raises:
        EnvironmentProblem: a file cannot be read, or an option has no sensible value.
    """
    parser = _Parser(strict=False)
    for path in _files():
        try:
            parser.read(path, encoding=locale.getpreferredencoding(False))
        except (configparser.Error, UnicodeDecodeError) as error:
            raise EnvironmentProblem(
                f"pip's configuration file {path} cannot be read: {error}",
                remedy="mend the file (`python -m pip config debug` lists all of them)",
            ) from error
    values: dict[str, str] = {}
    for section in filter(parser.has_section, ("global", "download")):
        values |= {name: value for name, value in parser.items(section) if value}
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            values[parser.optionxform(name.removeprefix("PIP_"))] = value
    return _parse(values)


def _files() -> list[Path]:
    """Return the configuration files of pip that could exist, in the order in which they override each other."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    name = "pip.conf"
    dirs = platformdirs.PlatformDirs("pip", appauthor=False, roaming=True, multipath=True)
    if sys.platform == "darwin":
        site = dirs.site_data_dir
        data = Path(platformdirs.user_data_dir("pip", appauthor=False))
        user = data if data.is_dir() else Path("~/.config/pip").expanduser()
    else:
        site = dirs.site_config_dir
        user = Path(dirs.user_config_dir)
    files = [Path(folder, name) for folder in site.split(os.pathsep)]
    if sys.platform != "darwin":
        files.append(Path("/etc", name))
    if not (named and Path(named).exists()):
        files += [Path("~/.pip", name).expanduser(), user / name]
    files.append(Path(sys.prefix, name))
    if named:
        files.append(Path(named))
    return files


def _parse(values: dict[str, str]) -> PipConfig:
    def words(name: str) -> tuple[str, ...]:
        return tuple(values.get(name, "").split())

    def path(name: str) -> Path | None:
        return Path(values[name]).expanduser() if name in values else None

    def number(name: str, default: float, least: float) -> float:
        try:
            value = float(values.get(name, default))
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise _invalid(name, values[name], f"a number of at least {least:g}")
        return value

    no_index = values.get("no-index", "no").lower()
    if no_index not in _TRUE | _FALSE:
        raise _invalid("no-index", no_index, "yes or no")
    return PipConfig(
        index_url=values.get("index-url"),
        extra_index_urls=words("extra-index-url"),
        find_links=words("find-links"),
        no_index=no_index in _TRUE,
        cert=path("cert"),
        client_cert=path("client-cert"),
        trusted_hosts=words("trusted-host"),
        proxy=values.get("proxy"),
        timeout=number("timeout", PipConfig.timeout, 0.001),
        retries=int(number("retries", PipConfig.retries, 0)),
    )


def _invalid(name: str, value: str, wanted: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"pip's option {name} is {value!r}, not {wanted}",
        remedy="set it right (`python -m pip config debug` says where it comes from)",
    )
