"""Libraries that only some commands need; they come with an extra of the package."""

from __future__ import annotations

from importlib import import_module

from toolkit.errors import EnvironmentProblem


def need(*modules: str, extra: str) -> None:
    """Import libraries that the extra `extra` installs.

    Raises:
        EnvironmentProblem: one of them is not installed.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise EnvironmentProblem(
                f"{error.name or module} is not installed",
                remedy=f"install the extra: python3 -m pip install 'patchset[{extra}]'",
            ) from None
