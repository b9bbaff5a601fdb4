"""`verify`: is a wheel, or an environment, what the series of this project makes?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from patchset.model.component import Packaging, Wheel
from patchset.model.project import Project
from patchset.model.series import Series
from patchset.sources import archive
from patchset.store.git import require
from patchset.wheels import sbom
from patchset.wheels import verify as proofs
from patchset.wheels.verify import Bundle, BundleCheck
from patchset.workflow.apply import read_series
from patchset.workflow.build import Get, plan_overlay, shipped_changes
from patchset.workflow.compute import compute
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import EnvironmentProblem, SourceUnavailable, UsageError, VerifyFailed
from toolkit.progress import Reporter


@dataclass(frozen=True)
class Verified:
    """What was found out about one distribution; `good` if no check failed."""

    title: str
    identity: sbom.Identity
    checks: tuple[BundleCheck, ...]

    @property
    def good(self) -> bool:
        return all(check.good is not False for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {"title": self.title, "good": self.good, **asdict(self)}


def verify_wheel(project: Project, file: Path, reporter: Reporter, *, offline: bool = False) -> Verified:
    """Prove a wheel file.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no wheel, or damaged.
        VerifyFailed: it was not made by this tool.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}", remedy="name a wheel, such as dist/*.whl")
    bundle = proofs.WheelFile(file)
    try:
        return _verify(project, bundle, Get("auto", offline, reporter))
    finally:
        bundle.close()


def verify_installed(project: Project, python: Path, reporter: Reporter, *, offline: bool = False) -> list[Verified]:
    """Prove every distribution in an environment that belongs to a component of the project.

    Raises:
        EnvironmentProblem: `python` cannot be run.
        VerifyFailed: the environment holds no such distribution, or one that this tool did not make.
    """
    names = {wheel.project for item in project.components for base in item.bases for wheel in base.wheels}
    names |= {item.packaging.project for item in project.components if item.packaging}
    found = list(_distributions(python, names))
    if not found:
        raise VerifyFailed(
            f"{python} has none of {', '.join(sorted(names))} installed",
            remedy="install the wheels that `patchset build` made, or name another --python",
        )
    return [_verify(project, bundle, Get("auto", offline, reporter)) for bundle in found]


_ASK = """
import importlib.metadata, json, re, sys
found = []
for item in importlib.metadata.distributions():
    name = re.sub(r"[-_.]+", "-", item.metadata["Name"] or "").lower()
    if name in sys.argv[1:] and item._path.name.endswith(".dist-info"):
        found.append([str(item._path.parent), item._path.name + "/"])
print(json.dumps(found))
"""


def _distributions(python: Path, names: set[str]) -> Iterator[Bundle]:
    try:
        # -P: the folder that we stand in must not be asked.
        done = subprocess.run([str(python), "-P", "-c", _ASK, *sorted(names)], capture_output=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(f"{python}: {error.strerror}", remedy="name a Python with --python") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EnvironmentProblem(
            f"{python} could not be asked", details=tuple(said[-3:]), remedy="name a Python 3.11 or newer with --python"
        )
    for site, dist_info in json.loads(done.stdout):
        yield proofs.Installed(Path(site), dist_info)


def _verify(project: Project, bundle: Bundle, get: Get) -> Verified:
    require()
    identity = proofs.identity(bundle)
    with get.reporter.task(f"verify {bundle.title}", None, "files") as task:
        checks = [proofs.check_record(bundle, task.update)]
    found = next((item for item in project.components if item.name == identity.component), None)
    base = found.base(identity.base) if found is not None else None
    if found is None or base is None or found.packaging is None:
        what = f"this project has no {identity.component} {identity.base}"
        return Verified(bundle.title, identity, (*checks, BundleCheck("series", False, what)))
    series = read_series(found, base)
    checks.append(_series(series, identity))
    wheel = None
    if identity.official is not None:
        wheel = next((item for item in base.wheels if (item.filename, item.sha256) == identity.official), None)
        detail = f"{identity.official[0]}, sha256 {identity.official[1]}"
        checks.append(
            BundleCheck("official wheel", wheel is not None, detail if wheel else f"not in base.toml: {detail}")
        )
    if all(check.good for check in checks[1:]):
        location = locate(project.root, found)
        with lock.hold(location.lock_file, found.name):
            checks += _files(project, location, series, found.packaging, wheel, bundle, get)
    return Verified(bundle.title, identity, tuple(checks))


def _files(
    project: Project,
    location: Location,
    series: Series,
    packaging: Packaging,
    wheel: Wheel | None,
    bundle: Bundle,
    get: Get,
) -> list[BundleCheck]:
    if wheel is None:
        made = compute(location, series, get.base(project, location, series))
        return [proofs.check_files(bundle, shipped_changes(location, made, packaging))]
    plan = plan_overlay(project, location, series, packaging, wheel, get)
    patched = proofs.check_files(bundle, plan.graft.changes)
    try:
        official = archive.download(wheel, get.reporter, get.offline)
    except SourceUnavailable as error:
        return [patched, BundleCheck("other files", None, f"not compared with {wheel.filename}: {error.message}")]
    return [patched, proofs.check_overlay(bundle, official, plan.graft)]


def _series(series: Series, identity: sbom.Identity) -> BundleCheck:
    here = {patch.name: patch.sha256 for patch in series.patches}
    count = f"{len(identity.patches)} patch{'es' if len(identity.patches) != 1 else ''}"
    if series.digest == identity.series:
        return BundleCheck("series", True, f"{series.title}, {count}, sha256 {identity.series}")
    theirs = dict(identity.patches)
    dropped = {item.name for item in identity.left_out}
    wrong = [f"{name}: another text here" for name, digest in theirs.items() if here.get(name, digest) != digest]
    wrong += [f"{name}: not in the series here" for name in theirs if name not in here]
    wrong += [f"{name}: not in the wheel" for name in here if name not in theirs and name not in dropped]
    return BundleCheck("series", False, "\n".join(wrong or ["another base commit, or another order of the patches"]))
