"""Find files in package indexes, by the simple repository API: PEP 503 (HTML), PEP 691 (JSON), PEP 700 (sizes).

Every place that pip would look at is looked at, cheapest first: `find-links`, then the index, then the extra
indexes. Their order decides nothing but speed: the caller knows the sha256 of the bytes it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pypi_simple
import requests
from packaging.utils import canonicalize_name
from pypi_simple import DistributionPackage, ProjectPage, PyPISimple

from patchset.sources import pipconfig
from patchset.sources.pipconfig import PipConfig
from patchset.sources.transport import BACKOFF, exchange
from patchset.sources.urls import local_path, redacted, with_credentials
from toolkit.errors import IntegrityError, SourceUnavailable

_PageReader = Callable[[str, str], list[DistributionPackage]]


@dataclass(frozen=True)
class RemoteFile:
    """A file that an index lists.

    `index`, the place that lists it, is fit to be shown; `url` may hold a password. `yanked` is the reason, None
    where the file is not yanked.
    """

    url: str = field(repr=False)
    filename: str
    sha256: str | None
    size: int | None
    index: str
    yanked: str | None = None


class Registry:
    """The indexes and link pages of one pip configuration, requested in turn.

    `problems` are the places that gave no answer, or do not have the file. `note` gets those that are broken.
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

    def candidates(self, project: str, filename: str) -> Iterator[RemoteFile]:
        """Return every place's `filename`; a place is requested only when the one before it was not enough."""
        for shown, files in self._listings(project):
            # Pages of links have any text: there the end of the URL decides.
            matching = [file for file in files if filename in (file.filename, _last_part(file.url))]
            if not matching:
                self.problems.append(_NotThere(f"{shown}: lists no {filename}"))
            for file in matching:
                if file.yanked is not None:
                    reason = f": {file.yanked}" if file.yanked else ""
                    self._note(f"{filename} was yanked from {shown}{reason}")
                yield replace(file, filename=filename)

    def listed(self, project: str) -> list[RemoteFile]:
        """Return every file of `project` that any place lists and has not yanked, each once, the first place's.

        Raises:
            SourceUnavailable: no place answers, or none knows the project.
        """
        files: dict[str, RemoteFile] = {}
        for _, listing in self._listings(project):
            for file in listing:
                known = files.get(file.filename)
                # A folder of links names no hashes; the index behind it may.
                if file.yanked is None and (known is None or known.sha256 is None):
                    files[file.filename] = file
        if not files:
            raise SourceUnavailable(
                f"no package index lists {project}",
                remedy="check the network, and pip's configuration: python -m pip config debug",
                details=tuple(problem.message for problem in self.problems),
            )
        return list(files.values())

    def not_found(self, project: str, filename: str) -> SourceUnavailable:
        """Return the error for when `candidates` is exhausted."""
        broken = [problem for problem in self.problems if not isinstance(problem, _NotThere)]
        return SourceUnavailable(
            f"no package index gives {filename}" + (f" ({len(broken)} gave no answer)" if broken else ""),
            remedy=broken[0].remedy
            if broken
            else f"name an index that has {project}: python -m pip config set global.extra-index-url URL",
            details=tuple(problem.message for problem in self.problems),
        )

    def _listings(self, project: str) -> Iterator[tuple[str, list[RemoteFile]]]:
        """Return each place that answers, as it is shown, with its files."""
        self.problems.clear()
        places: list[tuple[str, _PageReader]] = [(location, self._linked) for location in self.config.find_links]
        if not self.config.no_index:
            indexes = (self.config.index_url or pypi_simple.PYPI_SIMPLE_ENDPOINT, *self.config.extra_index_urls)
            places += [(location, self._indexed) for location in indexes]
        for location, read in places:
            shown = redacted(location)
            try:
                files = [_remote_file(package, location) for package in read(location, project)]
            except SourceUnavailable as error:
                problem = error
            except (pypi_simple.UnsupportedRepoVersionError, ValueError) as error:
                reason = " ".join(redacted(str(error)).split())
                problem = SourceUnavailable(
                    f"{shown}: its answer is no package index ({reason})",
                    remedy="check the URL of the index: python -m pip config debug",
                )
            else:
                yield shown, files
                continue
            self.problems.append(problem)
            if not isinstance(problem, _NotThere):
                self._note(f"{problem.message}; {problem.remedy}")

    def _indexed(self, location: str, project: str) -> list[DistributionPackage]:
        """Return the files that an index lists for `project`."""
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

        def request(session: requests.Session) -> ProjectPage:
            client = PyPISimple(location, session=session, accept=pypi_simple.ACCEPT_JSON_PREFERRED)
            return client.get_project_page(project, timeout=self.config.timeout)

        try:
            return self._page(location, request).packages
        except pypi_simple.NoSuchProjectError:
            raise _NotThere(f"{shown}: knows no project {project}") from None

    def _linked(self, location: str, project: str) -> list[DistributionPackage]:
        """Return the files of a folder, or those that a page links to, as pip's find-links has both."""

        def request(session: requests.Session) -> ProjectPage:
            response = session.get(location, timeout=self.config.timeout)
            response.raise_for_status()
            return ProjectPage.from_response(response, project)

        path = local_path(location)
        if path is None:
            return self._page(location, request).packages
        try:
            if path.is_dir():
                files = (file.absolute() for file in path.iterdir())
                return [DistributionPackage.from_link(pypi_simple.Link(file.name, file.as_uri(), {})) for file in files]
            return ProjectPage.from_html(project, path.read_bytes(), path.absolute().as_uri()).packages
        except OSError as error:
            raise SourceUnavailable(
                f"{location}: {error.strerror}",
                remedy="take it out of pip's find-links: python -m pip config debug",
            ) from error

    def _page(self, location: str, request: Callable[[requests.Session], ProjectPage]) -> ProjectPage:
        return exchange(request, location, self.config, self._note, backoff=self._backoff)


class _NotThere(SourceUnavailable):
    """The place answers, and does not have the file."""


def _remote_file(package: DistributionPackage, location: str) -> RemoteFile:
    """Return a file as the place at `location` lists it.

    Raises:
        ValueError: its URL is none.
    """
    return RemoteFile(
        url=with_credentials(package.url, location),
        filename=package.filename,
        sha256=package.digests.get("sha256", "").lower() or None,
        size=package.size,
        index=redacted(location),
        yanked=package.yanked_reason or "" if package.is_yanked else None,
    )


def other_bytes(filename: str, sha256: str | None, offered: list[RemoteFile]) -> IntegrityError:
    """Return the error for a file that every place has with another sha256."""
    return IntegrityError(
        f"{filename} is not the recorded file anywhere: expected sha256 {sha256}",
        remedy="do not use it: ask who runs the index why the bytes differ from the recorded ones",
        details=tuple(f"{remote.index}: sha256 {remote.sha256}" for remote in offered),
    )


def _last_part(url: str) -> str:
    return unquote(Path(urlsplit(url).path).name)
