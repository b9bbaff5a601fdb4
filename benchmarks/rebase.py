"""rebase against git rebase and git am -3, and the matrix, on the real vLLM releases, all imported before.

The series is one of the project's own, taken to a neighbouring release: its first patches, up to the one that conflicts
there, since a conflict waits for its user.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Contender, peak_memory, run, show

ROOT = Path(__file__).parents[1]
FIRST, LAST = "v0.26.0", "v0.33.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--series", default="v0.30.0", metavar="BASE", help="of vLLM; default: %(default)s")
    parser.add_argument("--onto", default="v0.31.0", metavar="RELEASE", help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="patchset-bench-") as folder:
        project = Project(Path(folder), options.series, options.onto)
        hop(project, options.rounds)
        matrix(project, options.rounds)
    print(f"peak memory of any process: {peak_memory():.0f} MB")


class Project:
    """A project with vLLM's series, its tree applied, and every release of the matrix imported."""

    def __init__(self, folder: Path, old: str, new: str) -> None:
        self.folder = folder
        self.old, self.new = old, new
        self.root = folder / "root"
        self.tool = (sys.executable, "-m", "patchset", "--root", self.root)
        shutil.copytree(ROOT / "patches/vllm", self.root / "patches/vllm")
        toml = self.root / "patches/vllm/component.toml"
        toml.write_text(re.sub(r'^pinned = ".*"$', f'pinned = "{old}"', toml.read_text(), flags=re.MULTILINE))
        for base in (self.root / "patches/vllm").iterdir():
            if base.is_dir() and base.name != old:
                shutil.rmtree(base)
        span = ("--from", min(FIRST, new), "--to", LAST)
        command = (*self.tool, "matrix", f"vllm@{old}", *span, "--source", "archive", "--json")
        self._cut(json.loads(run(*command))[0])
        run(*self.tool, "apply", f"vllm@{old}", "--source", "archive")
        run(*command)
        self.store = self.root / ".patchset/modules/extern/vllm"
        self.results = set((self.store / "patchset/made").iterdir())

    def _cut(self, matrix: dict[str, Any]) -> None:
        """Leave the first patches, those that merge into `new`, in the series."""
        (column,) = (item for item in matrix["columns"] if item["release"] == self.new)
        states = [cell["state"] for cell in column["cells"]]
        names = _names(self)
        kept = names[: states.index("conflict")] if "conflict" in states else names
        folder = self.root / "patches/vllm" / self.old
        for name in set(names) - set(kept):
            (folder / name).unlink()
        (folder / "series").write_text("".join(f"{name}\n" for name in kept))
        base = (folder / "base.toml").read_text().splitlines(keepends=True)
        (folder / "base.toml").write_text("".join(line for line in base if not line.startswith("patched-tree")))

    def commit(self, release: str) -> str:
        listed = run(
            "git", "-C", self.store, "for-each-ref", "--format=%(objectname) %(subject)", "refs/patchset/archive"
        )
        wanted = f"vllm-{release.removeprefix('v')}.tar.gz"
        return next(line.split()[0] for line in listed.splitlines() if line.endswith(wanted))


def hop(project: Project, rounds: int) -> None:
    theirs = project.folder / "theirs"
    tip = run("git", "-C", project.root / "extern/vllm", "rev-parse", "HEAD").strip()
    old, new = project.commit(project.old), project.commit(project.new)
    run("git", "init", "-q", theirs)
    (theirs / ".git/objects/info/alternates").write_text(f"{project.store / 'objects'}\n")
    for key, value in (("user.name", "bench"), ("user.email", "bench@localhost")):
        run("git", "config", key, value, cwd=theirs)
    target = project.root / "patches/vllm" / project.new
    patches = [project.root / "patches/vllm" / project.old / name for name in _names(project)]

    def reset() -> None:
        run("git", "checkout", "-q", "-f", "-B", "series", tip, cwd=theirs)

    def at_new() -> None:
        subprocess.run(["git", "am", "--abort"], cwd=theirs, capture_output=True, check=False)
        run("git", "checkout", "-q", "-f", "-B", "series", new, cwd=theirs)

    def fresh() -> None:
        shutil.rmtree(target, ignore_errors=True)
        for file in set((project.store / "patchset/made").iterdir()) - project.results:
            file.unlink()

    command = (*project.tool, "rebase", f"vllm@{project.old}", project.new, "--offline")
    git_rebase = ("git", "rebase", "-q", "--onto", new, old, "series")
    contenders = [
        Contender("start-up", lambda: run(*project.tool, "rebase", "--help")),
        Contender("git rebase", lambda: run(*git_rebase, cwd=theirs), reset),
        Contender("git am -3", lambda: run("git", "am", "-q", "-3", *patches, cwd=theirs), at_new),
        Contender("rebase", lambda: run(*command), fresh),
    ]
    wall, cpu = race_both(contenders, rounds)
    fresh()
    for name, medians in inside(project, rounds).items():
        wall[name], cpu[name] = medians
    run(*project.tool, "rebase", f"vllm@{project.old}", project.new, "--offline")
    reset()
    run(*git_rebase, cwd=theirs)
    tree = run("git", "rev-parse", "HEAD^{tree}", cwd=theirs).strip()
    same = f'patched-tree = "{tree}"' in (target / "base.toml").read_text()
    title = f"{len(patches)} patches from {project.old} to {project.new}, {'the same tree' if same else 'OTHER TREES'}"
    for name, medians in (("wall time", wall), ("processor time", cpu)):
        medians["rebase beyond start-up"] = medians["rebase"] - medians["start-up"]
        medians = {key: medians[key] for key in (*(item.name for item in contenders), *OURS[1:])}
        show(f"{title}: {name}, medians", medians, "rebase beyond start-up", {})
        for ours in OURS:
            print(f"{name}: git rebase takes {medians['git rebase'] / medians[ours]:.1f} x as long as {ours}")


# In a process that has loaded everything: the whole rebase, and the merges of it alone.
INSIDE = """
import resource, shutil, statistics, sys, time
from pathlib import Path
from patchset.engine.replay import merger, replay
from patchset.project.project import load
from patchset.rebasing.rebase import start
from patchset.sources.acquire import present
from patchset.store.merge import scratch
from patchset.workflow.steps import stack_of
from patchset.workflow.workspace import Workspace

root, old, new, rounds = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
results = root / ".patchset/modules/extern/vllm/patchset/made"
kept = set(results.iterdir())

def clock():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(item.ru_utime + item.ru_stime for item in usage)

whole, merges = [], []
for _ in range(rounds + 1):
    project = load(root)
    component = project.component("vllm")
    workspace = Workspace(project, component, component.base(old), source="archive", offline=True)
    before = clock()
    start(workspace, new)
    whole.append([b - a for a, b in zip(before, clock())])
    target = load(root).component("vllm").base(new)
    location = workspace.location
    stack = stack_of(location, workspace.series, present(location.git, workspace.base, "archive"))
    onto = present(location.git, target, "archive").tree
    before = clock()
    with scratch(location.git, location.private) as git:
        replay(stack.steps, onto, merger(git))
    merges.append([b - a for a, b in zip(before, clock())])
    shutil.rmtree(root / "patches/vllm" / new)
    for file in set(results.iterdir()) - kept:
        file.unlink()
for times in (whole, merges):
    print(*(statistics.median(values) for values in zip(*times[1:])))
"""
OURS = ("rebase", "rebase beyond start-up", "rebase in a warm process", "its merges alone")


def inside(project: Project, rounds: int) -> dict[str, tuple[float, float]]:
    """Return wall and processor time of a rebase and of its merges in a process that has loaded everything."""
    out = run(sys.executable, "-c", INSIDE, project.root, project.old, project.new, str(rounds)).splitlines()
    return {name: (float(a), float(b)) for name, (a, b) in zip(OURS[2:], map(str.split, out), strict=True)}


def race_both(contenders: Sequence[Contender], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return each contender's median wall time, and processor time of all its processes, in seconds.

    Processor time says more where the machine has other work.
    """
    wall: dict[str, list[float]] = {item.name: [] for item in contenders}
    cpu: dict[str, list[float]] = {item.name: [] for item in contenders}
    for _ in range(rounds):
        for item in contenders:
            item.before()
            before, start = children(), time.perf_counter()
            item.command()
            wall[item.name].append(time.perf_counter() - start)
            cpu[item.name].append(children() - before)
    return _medians(wall), _medians(cpu)


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _names(project: Project) -> list[str]:
    lines = (project.root / "patches/vllm" / project.old / "series").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def matrix(project: Project, rounds: int) -> None:
    """Time the cells in one process, without its start-up, and a whole second run."""
    shutil.rmtree(project.root / "patches/vllm" / project.new, ignore_errors=True)
    command = (*project.tool, "matrix", f"vllm@{project.old}", "--known", "--source", "archive", "--json")
    cache = project.store / "patchset/matrix"
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom patchset.project.project import load\n"
        "from patchset.rebasing.matrix import ReleaseChoice, matrix\n"
        "from patchset.workflow.workspace import Workspace\n"
        "project = load(Path(sys.argv[1]))\ncomponent = project.component('vllm')\n"
        f"workspace = Workspace(project, component, component.base('{project.old}'), source='archive')\n"
        "result = matrix(workspace, ReleaseChoice(known=True))\n"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(result.computed, result.seconds, usage.ru_utime + usage.ru_stime)\n"
    )
    times, processors, cells = [], [], 0
    for _ in range(rounds):
        shutil.rmtree(cache)
        out = run(sys.executable, "-c", code, project.root).split()
        cells = int(out[0])
        times.append(float(out[1]) / cells)
        processors.append(float(out[2]) / cells)
    start = time.perf_counter()
    columns = json.loads(run(*command))[0]["columns"]
    again = time.perf_counter() - start
    print(f"matrix: {cells} cells, {len(columns)} releases: {statistics.median(times) * 1000:.1f} ms a cell (median)")
    print(f"processor time of git in it: {statistics.median(processors) * 1000:.1f} ms a cell")
    print(f"matrix, second run, start-up and all: {again * 1000:.0f} ms")


if __name__ == "__main__":
    main()
