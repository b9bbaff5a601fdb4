"""One exception class and one exit code for each cause; every message carries its remedy.

The codes are part of the command's interface (docs/exit-codes.md lists them) and never change meaning.
"""

from __future__ import annotations

from typing import ClassVar


class PatchsetError(Exception):
    """Base of everything that the tool reports to its user.

    `message` names the thing that is wrong; `remedy` says what the user can do about it; `details` are
    further lines, each about one thing (a file, a patch, a key).
    """

    exit_code: ClassVar[int] = 1
    slug: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def as_json(self) -> dict[str, object]:
        return {
            "error": self.slug,
            "exit_code": self.exit_code,
            "message": self.message,
            "remedy": self.remedy,
            "details": list(self.details),
        }


class UsageError(PatchsetError):
    """A wrong command line, or a component or base that does not exist (click uses 2 as well)."""

    exit_code = 2
    slug = "usage"


class SeriesError(PatchsetError):
    """A series, patch or TOML file breaks its format; `details` hold every finding of the linter."""

    exit_code = 3
    slug = "series"


class PatchConflict(PatchsetError):
    """A patch does not match the tree that it is applied to; names file and hunk."""

    exit_code = 4
    slug = "conflict"


class IntegrityError(PatchsetError):
    """Bytes are not the recorded ones: an archive, a blob, a tree, a wheel."""

    exit_code = 5
    slug = "integrity"


class LocalChanges(PatchsetError):
    """Work of the user's own is in the way; nothing was changed."""

    exit_code = 6
    slug = "local-changes"


class SourceUnavailable(PatchsetError):
    """Neither the git host nor the registry gave the base."""

    exit_code = 7
    slug = "source"


class Locked(PatchsetError):
    """Another run holds the lock."""

    exit_code = 8
    slug = "locked"


class EnvironmentProblem(PatchsetError):
    """Something that this machine lacks: git, a compiler, CUDA, memory, disk space."""

    exit_code = 9
    slug = "environment"


class BuildRefused(PatchsetError):
    """The requested build route cannot produce this wheel; names the patch and the other route."""

    exit_code = 10
    slug = "route"


class BuildFailed(PatchsetError):
    """The component's own build system failed; the log's path is in the message."""

    exit_code = 11
    slug = "build"


class VerifyFailed(PatchsetError):
    """A wheel or an environment differs from what the series gives."""

    exit_code = 12
    slug = "verify"
