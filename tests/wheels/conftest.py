"""Small real wheels, as a build back end writes them, and a project whose series they are patched with."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from patchset.wheels import record

from ..conftest import TRAILERS, Upstream, git

PACKAGE: Mapping[str, str | bytes] = {
    "pkg/__init__.py": "from pkg._version import __version__\n",
    "pkg/one.py": "".join(f"line {n}\n" for n in range(1, 31)),
    "pkg/gone.py": "old = True\n",
    "pkg/data,with comma.json": "{}\n",
    "csrc/kernel.cu": "// compiled\n",
    "docs/guide.md": "guide\n",
    "pyproject.toml": "[build-system]\n",
}
GENERATED: Mapping[str, str | bytes] = {
    "pkg/_version.py": "__version__ = version = '1.0'\n__version_tuple__ = version_tuple = (1, 0)\n",
    "pkg/_C.so": bytes(range(256)) * 400,
}


def write_wheel(file: Path, files: Mapping[str, str | bytes], metadata: str = "") -> Path:
    """Write a wheel with a right RECORD; its name, version and tags are those of the file name."""
    name, version, _ = file.name.split("-", 2)
    info = f"{name}-{version}.dist-info/"
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\nVersion: not this one\n"
    every = {
        **{path: data for path, data in files.items() if path.startswith(f"{name}/")},
        f"{name}-{version}.data/data/share/notes.txt": "notes\n",
        f"{info}licenses/LICENSE": "licence\n",
        f"{info}METADATA": head,
        f"{info}WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    rows = []
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in every.items():
            data = content.encode() if isinstance(content, str) else content
            entry = zipfile.ZipInfo(path, (2026, 1, 2, 3, 4, 6))
            entry.external_attr = (0o100755 if path.endswith(".so") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
            rows.append(record.entry_of(path, data))
        rows.append(record.RecordEntry(f"{info}RECORD", "", ""))
        archive.writestr(zipfile.ZipInfo(f"{info}RECORD", (2026, 1, 2, 3, 4, 6)), record.dump(rows))
    return file


@dataclass
class WheelRoot:
    """A project with one component `foo`, a series on 1.0, and its official wheel in the tool's cache."""

    path: Path
    upstream: Upstream
    official: Path

    @property
    def series(self) -> Path:
        return self.path / "patches/foo/1.0"

    def add_patch(self, name: str, files: Mapping[str, str | bytes | None], trailers: str = "") -> None:
        commit = self.upstream.commit(f"{name}\n\nBecause.\n\n{TRAILERS}{trailers}", files)
        (self.series / f"{name}.patch").write_bytes(self.upstream.format_patch(commit))
        with (self.series / "series").open("a") as stream:
            stream.write(f"{name}.patch\n")
        self.write_base()

    def write_base(self, **changed: str) -> None:
        digest = hashlib.sha256(self.official.read_bytes()).hexdigest()
        values = {"file": self.official.name, "sha256": digest, "commit": self.base, "platform": "any"} | changed
        (self.series / "base.toml").write_text(
            f'commit = "{values["commit"]}"\n'
            f'tree = "{self.upstream.tree("1.0")}"\npatched-tree = "{self.upstream.tree()}"\n\n'
            f'[[wheel]]\nvariant = "default"\nplatform = "{values["platform"]}"\nproject = "pkg"\n'
            f'file = "{values["file"]}"\nsha256 = "{values["sha256"]}"\n'
        )

    @property
    def base(self) -> str:
        return git(self.upstream.path, "rev-parse", "1.0^{commit}")


COMPONENT = """\
pinned = "1.0"

[wheel]
project = "pkg"
packages = ["pkg/**"]
compiled = ["csrc/**", "pyproject.toml"]
version-file = "pkg/_version.py"
build-files = ["pyproject.toml"]
"""


@pytest.fixture
def wheel_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelRoot:
    """A project whose wheel is in the cache, its series empty; `extern/foo` is a clone at the base."""
    monkeypatch.setenv("PATCHSET_CACHE_DIR", str(tmp_path / "cache"))
    upstream = Upstream(tmp_path / "upstream")
    upstream.path.mkdir()
    git(upstream.path, "init", "-q")
    upstream.commit("base", PACKAGE)
    git(upstream.path, "tag", "1.0")
    made = write_wheel(tmp_path / "pkg-1.0-py3-none-any.whl", {**PACKAGE, **GENERATED})
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    official = tmp_path / "cache/archives" / digest / made.name
    official.parent.mkdir(parents=True)
    made.rename(official)
    root = WheelRoot(tmp_path / "root", upstream, official)
    root.series.mkdir(parents=True)
    (root.series / "series").touch()
    (root.path / "patches/foo/component.toml").write_text(COMPONENT)
    root.write_base()
    git(tmp_path, "clone", "-q", "--no-local", str(upstream.path), str(root.path / "extern/foo"))
    return root
