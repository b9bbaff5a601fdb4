"""Other Pythons: what is installed there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentProblem

_PROBE = """
import importlib.metadata as m, importlib.util as u, json, os, platform, sys
versions, sites = {"python": platform.python_version()}, {}
for name in sys.argv[1:]:
    try: versions[name] = m.version(name)
    except m.PackageNotFoundError: pass
    if spec := u.find_spec(name):
        sites[name] = os.path.dirname([*(spec.submodule_search_locations or ()), spec.origin][0])
print(json.dumps({"versions": versions, "sites": sites}))
"""


@dataclass(frozen=True)
class Python:
    """An environment: its interpreter, the folder that each module is in, and the versions of distributions."""

    path: Path
    sites: Mapping[str, Path]
    versions: dict[str, str]


def find_packages(python: Path, names: Sequence[str], *, remedy: str, env: Mapping[str, str] | None = None) -> Python:
    """Return an environment, with the modules and the distributions of `names` that it has.

    Raises:
        EnvironmentProblem: `python` does not run.
    """
    answer = query(python, _PROBE, *names, remedy=remedy, env=env)
    return Python(python, {name: Path(folder) for name, folder in answer["sites"].items()}, answer["versions"])


def query(python: Path, script: str, *arguments: str, remedy: str, env: Mapping[str, str] | None = None) -> Any:
    """Return the JSON that a script prints in another Python, which imports nothing from the current folder.

    Raises:
        EnvironmentProblem: `python` does not run, or the script fails.
    """
    command = [str(python), "-c", f"import sys; sys.path[:] = filter(None, sys.path)\n{script}", *arguments]
    try:
        return json.loads(subprocess.run(command, env=env, capture_output=True, check=True, timeout=60).stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or b"").decode(errors="replace").splitlines() or [str(error)]
        raise EnvironmentProblem(f"{python} is no Python that runs", details=(lines[-1],), remedy=remedy) from None
