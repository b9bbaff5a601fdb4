"""`verify`: a wheel, or an environment, is compared with the series of this project."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from patchset.model.component import Packaging, Wheel
from patchset.model.series import Series
from patchset.project.project import Project
from patchset.sources import archive
from patchset.store.git import require
from patchset.wheels import sbom
from patchset.wheels import verify as proofs
from patchset.wheels.verify import Bundle, BundleCheck
from patchset.workflow.build import plan_overlay, shipped_changes
from patchset.workflow.compute import compute
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import EnvironmentProblem, SourceUnavailable, UsageError, VerifyFailed
from toolkit.progress import Reporter
from toolkit.text import count_of


@dataclass(frozen=True)
class VerifyReport:
    """The checks of one distribution; `good` if none failed."""

    title: str
    identity: sbom.Identity
    checks: tuple[BundleCheck, ...]

    @property
    def good(self) -> bool:
        return all(check.good is not False for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {"title": self.title, "good": self.good, **asdict(self)}


def verify_wheel(project: Project, file: Path, reporter: Reporter, *, offline: bool = False) -> VerifyReport:
    """Verify a wheel file.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no wheel, or damaged.
        VerifyFailed: it is not a wheel of this tool.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}", remedy="name a wheel, such as dist/*.whl")
    with closing(proofs.WheelFile(file)) as bundle:
        return _verify(project, bundle, reporter, offline)


def verify_installed(
    project: Project, python: Path, reporter: Reporter, *, offline: bool = False
) -> list[VerifyReport]:
    """Verify every distribution in an environment that belongs to a component of the project.

    Raises:
        EnvironmentProblem: `python` cannot be run.
        VerifyFailed: the environment holds no such distribution, or one that is not of this tool.
    """
    names = {wheel.project for item in project.components for base in item.bases for wheel in base.wheels}
    names |= {item.packaging.project for item in project.components if item.packaging}
    bundles = list(_distributions(python, names))
    if not bundles:
        raise VerifyFailed(
            f"{python} has none of {', '.join(sorted(names))} installed",
            remedy="install the wheels of `patchset build`, or name another --python",
        )
    return [_verify(project, bundle, reporter, offline) for bundle in bundles]


_QUERY = """
import importlib.metadata, json, re, sys
places = []
for item in importlib.metadata.distributions():
    name = re.sub(r"[-_.]+", "-", item.metadata["Name"] or "").lower()
    if name in sys.argv[1:] and item._path.name.endswith(".dist-info"):
        places.append([str(item._path.parent), item._path.name + "/"])
print(json.dumps(places))
"""


def _distributions(python: Path, names: set[str]) -> Iterator[Bundle]:
    try:
        # -P: modules of the current folder must not be imported.
        answer = subprocess.run([str(python), "-P", "-c", _QUERY, *sorted(names)], capture_output=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(f"{python}: {error.strerror}", remedy="name a Python with --python") from error
    if answer.returncode:
        lines = answer.stderr.decode(errors="replace").strip().splitlines()
        raise EnvironmentProblem(
            f"{python} cannot list its distributions",
            details=tuple(lines[-3:]),
            remedy="name a Python 3.11 or newer with --python",
        )
    for site, dist_info in json.loads(answer.stdout):
        yield proofs.Installed(Path(site), dist_info)


def _verify(project: Project, bundle: Bundle, reporter: Reporter, offline: bool) -> VerifyReport:
    require()
    identity = proofs.identity(bundle)
    with reporter.task(f"verify {bundle.title}", None, "files") as task:
        checks = [proofs.check_record(bundle, task.update)]
    component = next((item for item in project.components if item.name == identity.component), None)
    base = component.base(identity.base) if component is not None else None
    if component is None or base is None or component.packaging is None:
        what = f"this project has no {identity.component} {identity.base}"
        return VerifyReport(bundle.title, identity, (*checks, BundleCheck("series", False, what)))
    workspace = Workspace(project, component, base, reporter, offline=offline)
    checks.append(_series(workspace.series, identity))
    wheel = None
    if identity.official is not None:
        wheel = next((item for item in base.wheels if (item.filename, item.sha256) == identity.official), None)
        detail = f"{identity.official[0]}, sha256 {identity.official[1]}"
        checks.append(
            BundleCheck("official wheel", wheel is not None, detail if wheel else f"not in base.toml: {detail}")
        )
    if all(check.good for check in checks[1:]):
        with workspace.lock() as location:
            checks += _files(workspace, location, component.packaging, wheel, bundle)
    return VerifyReport(bundle.title, identity, tuple(checks))


def _files(
    workspace: Workspace, location: Location, packaging: Packaging, wheel: Wheel | None, bundle: Bundle
) -> list[BundleCheck]:
    if wheel is None:
        patched = compute(location, workspace.series, workspace.acquire())
        return [proofs.check_files(bundle, shipped_changes(location, patched, packaging))]
    plan = plan_overlay(workspace, location, packaging, wheel)
    patched_files = proofs.check_files(bundle, plan.graft.changes)
    try:
        official = archive.download(wheel, workspace.reporter, workspace.offline)
    except SourceUnavailable as error:
        return [patched_files, BundleCheck("other files", None, f"not compared with {wheel.filename}: {error.message}")]
    return [patched_files, proofs.check_overlay(bundle, official, plan.graft)]


def _series(series: Series, identity: sbom.Identity) -> BundleCheck:
    if series.digest == identity.series:
        count = count_of(len(identity.patches), "patch")
        return BundleCheck("series", True, f"{series.title}, {count}, sha256 {identity.series}")
    here = {patch.name: patch.sha256 for patch in series.patches}
    theirs = dict(identity.patches)
    omitted = {item.name for item in identity.left_out}
    wrong = [f"{name}: another text here" for name, digest in theirs.items() if here.get(name, digest) != digest]
    wrong += [f"{name}: not in the series here" for name in theirs if name not in here]
    wrong += [f"{name}: not in the wheel" for name in here if name not in theirs and name not in omitted]
    return BundleCheck("series", False, "\n".join(wrong or ["another base commit, or another order of the patches"]))
