"""Asks package indexes for a file, by the simple repository API: PEP 503 (HTML), PEP 691 (JSON), PEP 700
(sizes).

Everything that pip would look at is looked at, cheapest first: `find-links`, then the index, then the extra
indexes. Which of several is asked first decides nothing but speed: the caller knows the sha256 of the bytes
it wants.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from patchset.sources import pipconfig
from patchset.sources.pipconfig import PipConfig
from patchset.sources.transport import (
    BACKOFF,
    is_transient,
    local_path,
    open_session,
    pauses,
    redacted,
    unavailable,
    with_credentials,
    without_users,
)
from toolkit.errors import IntegrityError, SourceUnavailable

if TYPE_CHECKING:
    import requests
    from pypi_simple import DistributionPackage, ProjectPage


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be had. `index`, the place that listed it, is fit to be shown; `url` may hold a
    password."""

    url: str = field(repr=False)
    filename: str
    sha256: str | None
    size: int | None
    index: str


class Registry:
    """The indexes and link pages of one pip configuration, asked in turn.

    Places that could not be asked, or do not have the file, are collected in `problems`, and told to `note`
    when they are broken rather than without the file.
    """

    def __init__(
        self,
        config: PipConfig | None = None,
        *,
        note: Callable[[str], None] = lambda _: None,
        backoff: float = BACKOFF,
    ) -> None:
        self.config = pipconfig.load() if config is None else config
        self.problems: list[SourceUnavailable] = []
        self._note = note
        self._backoff = backoff
        self._session: requests.Session | None = None

    def candidates(self, project: str, filename: str) -> Iterator[RemoteFile]:
        """Every place that has `filename`; each is asked only when the one before it was not enough."""
        from pypi_simple import UnsupportedRepoVersionError

        self.problems.clear()
        for location, ask in self._places():
            shown = redacted(location)
            try:
                matching = [package for package in ask(location, project) if _names(package, filename)]
            except (SourceUnavailable, UnsupportedRepoVersionError, ValueError) as error:
                problem = error if isinstance(error, SourceUnavailable) else _no_index(shown, error)
                self.problems.append(problem)
                if not isinstance(problem, _NotThere):
                    self._note(f"{problem.message}; {problem.remedy}")
                continue
            if not matching:
                self.problems.append(_NotThere(f"{shown}: lists no {filename}"))
            for package in matching:
                if package.is_yanked:
                    reason = f": {package.yanked_reason}" if package.yanked_reason else ""
                    self._note(f"{filename} was yanked from {shown}{reason}")
                yield RemoteFile(
                    url=with_credentials(package.url, location),
                    filename=filename,
                    sha256=package.digests.get("sha256", "").lower() or None,
                    size=package.size,
                    index=shown,
                )

    def listed(self, project: str) -> list[RemoteFile]:
        """Every file of `project` that any place lists and has not yanked, each once, the first place's.

        Raises:
            SourceUnavailable: no place could be asked, or none knows the project.
        """
        from pypi_simple import UnsupportedRepoVersionError

        self.problems.clear()
        found: dict[str, RemoteFile] = {}
        for location, ask in self._places():
            shown = redacted(location)
            try:
                packages = ask(location, project)
            except (SourceUnavailable, UnsupportedRepoVersionError, ValueError) as error:
                self.problems.append(error if isinstance(error, SourceUnavailable) else _no_index(shown, error))
                continue
            for package in packages:
                known = found.get(package.filename)
                # A folder of links names no hashes; the index behind it may.
                if not package.is_yanked and (known is None or known.sha256 is None):
                    found[package.filename] = RemoteFile(
                        url=with_credentials(package.url, location),
                        filename=package.filename,
                        sha256=package.digests.get("sha256", "").lower() or None,
                        size=package.size,
                        index=shown,
                    )
        if not found:
            raise SourceUnavailable(
                f"no package index lists {project}",
                remedy="check the network, and pip's configuration: python -m pip config debug",
                details=tuple(problem.message for problem in self.problems),
            )
        return list(found.values())

    def not_found(self, project: str, filename: str) -> SourceUnavailable:
        """What to tell the user when `candidates` is exhausted."""
        broken = [problem for problem in self.problems if not isinstance(problem, _NotThere)]
        return SourceUnavailable(
            f"no package index gives {filename}" + (f" ({len(broken)} could not be asked)" if broken else ""),
            remedy=broken[0].remedy
            if broken
            else f"name an index that has {project}: python -m pip config set global.extra-index-url URL",
            details=tuple(problem.message for problem in self.problems),
        )

    def _places(self) -> Iterator[tuple[str, Callable[[str, str], list[DistributionPackage]]]]:
        for location in self.config.find_links:
            yield location, self._linked
        if not self.config.no_index:
            import pypi_simple

            for location in (
                self.config.index_url or pypi_simple.PYPI_SIMPLE_ENDPOINT,
                *self.config.extra_index_urls,
            ):
                yield location, self._indexed

    def _indexed(self, location: str, project: str) -> list[DistributionPackage]:
        """The files that an index lists for `project`."""
        from packaging.utils import canonicalize_name
        from pypi_simple import ACCEPT_JSON_PREFERRED, NoSuchProjectError, ProjectPage, PyPISimple

        shown = redacted(location)
        root = local_path(location)
        if root is not None:
            page = root / canonicalize_name(project) / "index.html"
            if not root.is_dir():
                raise SourceUnavailable(
                    f"{shown}: no such folder",
                    remedy="take it out of pip's configuration: python -m pip config debug",
                )
            if not page.is_file():
                raise _NotThere(f"{shown}: knows no project {project}")
            return ProjectPage.from_html(project, page.read_bytes(), page.absolute().as_uri()).packages

        client = PyPISimple(location, session=self._http(), accept=ACCEPT_JSON_PREFERRED)

        def ask() -> ProjectPage:
            return client.get_project_page(project, timeout=self.config.timeout)

        try:
            return self._asked(location, ask).packages
        except NoSuchProjectError:
            raise _NotThere(f"{shown}: knows no project {project}") from None

    def _linked(self, location: str, project: str) -> list[DistributionPackage]:
        """The files of a folder, or those that a page links to, as pip's find-links has both."""
        from pypi_simple import DistributionPackage, Link, ProjectPage

        path = local_path(location)
        if path is None:

            def ask() -> ProjectPage:
                response = self._http().get(location, timeout=self.config.timeout)
                response.raise_for_status()
                return ProjectPage.from_response(response, project)

            return self._asked(location, ask).packages
        try:
            if path.is_dir():
                files = (file.absolute() for file in path.iterdir())
                return [DistributionPackage.from_link(Link(file.name, file.as_uri(), {})) for file in files]
            return ProjectPage.from_html(project, path.read_bytes(), path.absolute().as_uri()).packages
        except OSError as error:
            raise SourceUnavailable(
                f"{location}: {error.strerror}",
                remedy="take it out of pip's find-links: python -m pip config debug",
            ) from error

    def _http(self) -> requests.Session:
        if self._session is None:
            self._session = open_session(self.config)
        return self._session

    def _asked(self, location: str, ask: Callable[[], ProjectPage]) -> ProjectPage:
        """What `ask` gives, after as many tries as pip would make."""
        waits = pauses(self.config.retries, self._backoff)
        while True:
            try:
                return ask()
            except OSError as error:
                problem = unavailable(location, error)
                wait = next(waits, None) if is_transient(error) else None
                if wait is None:
                    raise problem from error
                self._note(f"{problem.message}; trying again in {wait:g} s")
                time.sleep(wait)


class _NotThere(SourceUnavailable):
    """The place answers, and does not have the file."""


def _no_index(shown: str, error: Exception) -> SourceUnavailable:
    """The error for an answer that the index client cannot read."""
    reason = " ".join(without_users(str(error)).split())
    return SourceUnavailable(
        f"{shown}: its answer is no package index ({reason})",
        remedy="check the URL of the index: python -m pip config debug",
    )


def other_bytes(filename: str, sha256: str | None, offered: list[RemoteFile]) -> IntegrityError:
    """The error for a file that every place has with another sha256."""
    return IntegrityError(
        f"{filename} is not the recorded file anywhere: expected sha256 {sha256}",
        remedy="do not use it: ask who runs the index why the bytes differ from the recorded ones",
        details=tuple(f"{remote.index}: sha256 {remote.sha256}" for remote in offered),
    )


def _names(package: DistributionPackage, filename: str) -> bool:
    """Whether the link leads to `filename`: pages of links have any text, there the end of the URL decides."""
    return filename in (package.filename, unquote(Path(urlsplit(package.url).path).name))
