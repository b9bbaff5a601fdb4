"""Archives member by member: what builds make is read, what no honest build makes is refused by name."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from patchset.sources.members import EXECUTABLE, FILE, SYMLINK, members, newest_mtime
from toolkit.errors import IntegrityError


def sdist(path: Path, *entries: tuple[str, object], **fields: object) -> Path:
    """Write `demo-1.0.tar.gz`; a value is a file's bytes, or a TarInfo to write as it is."""
    with tarfile.open(path / "demo-1.0.tar.gz", "w:gz") as archive:
        for name, value in entries:
            if isinstance(value, tarfile.TarInfo):
                archive.addfile(value)
                continue
            assert isinstance(value, bytes)
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(value), 1_700_000_000
            for key, field in fields.items():
                setattr(info, key, field)
            archive.addfile(info, io.BytesIO(value))
    return path / "demo-1.0.tar.gz"


def special(name: str, kind: bytes, target: str = "") -> tuple[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def wheel(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    file = path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return file


def test_an_sdist_without_its_top_folder(tmp_path: Path) -> None:
    link = special("demo-1.0/pkg/link", tarfile.SYMTYPE, "../README")
    file = sdist(tmp_path, ("demo-1.0/README", b"hello"), ("demo-1.0/pkg/a.py", b""), link)
    assert [(item.path, item.mode, item.data) for item in members(file)] == [
        ("README", FILE, b"hello"),
        ("pkg/a.py", FILE, b""),
        ("pkg/link", SYMLINK, b"../README"),
    ]
    assert newest_mtime(file) == 1_700_000_000


def test_modes_are_gits(tmp_path: Path) -> None:
    file = sdist(tmp_path, ("demo-1.0/run", b""), mode=0o777)
    assert [item.mode for item in members(file)] == [EXECUTABLE]
    file = wheel(tmp_path, ("demo/a.py", b"", 0o100644), ("demo/run", b"", 0o100755), ("demo/none", b"", 0))
    assert [item.mode for item in members(file)] == [FILE, EXECUTABLE, FILE]


def test_a_wheel(tmp_path: Path) -> None:
    file = wheel(tmp_path, ("demo/__init__.py", b"x = 1\n", 0o100644), ("demo/ü.txt", b"", 0o100644))
    assert [item.path for item in members(file)] == ["demo/__init__.py", "demo/ü.txt"]
    assert newest_mtime(file) == 1_767_323_046


BAD_NAMES = [
    ("/etc/passwd", "absolute"),
    ("demo-1.0/../../x", "'..'"),
    ("demo-1.0//x", "empty"),
    ("demo-1.0/./x", "'.'"),
    ("demo-1.0/.git/config", ".git"),
    ("demo-1.0/.GIT/config", ".git"),
    ("demo-1.0/git~1/config", ".git"),
    ("demo-1.0/.git. /config", ".git"),
    ("demo-1.0/a\\b", "backslash"),
]


@pytest.mark.parametrize(("name", "why"), BAD_NAMES)
def test_a_path_that_leaves_the_tree(tmp_path: Path, name: str, why: str) -> None:
    for file in (sdist(tmp_path, (name, b"x")), wheel(tmp_path, (name, b"x", 0o100644))):
        with pytest.raises(IntegrityError, match=why) as caught:
            list(members(file))
        assert file.name in caught.value.message
        assert repr(name) in caught.value.message


@pytest.mark.parametrize("target", ["/etc/passwd", "/x", "..\\..\\x", "a\\b", "../../x", "..", "pkg/../../.."])
def test_a_symbolic_link_out_of_the_tree(tmp_path: Path, target: str) -> None:
    with pytest.raises(IntegrityError, match="symbolic link out of the tree"):
        list(members(sdist(tmp_path, special("demo-1.0/link", tarfile.SYMTYPE, target))))
    with pytest.raises(IntegrityError, match="symbolic link out of the tree"):
        list(members(wheel(tmp_path, ("link", target.encode(), 0o120777))))


def test_a_symbolic_link_out_of_the_tree_through_another(tmp_path: Path) -> None:
    """`..` after a name goes up from where that name leads, which is not where it stands."""
    up = special("demo-1.0/pkg/up", tarfile.SYMTYPE, "..")
    out = special("demo-1.0/out", tarfile.SYMTYPE, "pkg/up/..")
    with pytest.raises(IntegrityError, match=r"out.*'\.\.' behind a name"):
        list(members(sdist(tmp_path, up, out)))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "neither a file"),
        (tarfile.FIFOTYPE, "neither a file"),
    ],
)
def test_what_a_tree_cannot_hold(tmp_path: Path, kind: bytes, why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        list(members(sdist(tmp_path, special("demo-1.0/thing", kind, "demo-1.0/other"))))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("demo-1.0/a", "demo-1.0/a"), "twice"),
        (("demo-1.0/a", "demo-1.0/a/b"), "a file and a folder"),
        (("demo-1.0/a/b", "demo-1.0/a"), "a file and a folder"),
        (("demo-1.0/a", "other/b"), "beside the sdist's top folder"),
        (("loose",), "beside the sdist's top folder"),
    ],
)
def test_names_that_contradict_each_other(tmp_path: Path, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        list(members(sdist(tmp_path, *((name, b"") for name in names))))


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    file = wheel(tmp_path, ("x", b"", 0o100644))
    # Both headers say that the name has one byte; none is left when they say nought.
    data = file.read_bytes().replace(b"x", b"\0")
    file.write_bytes(data)
    with pytest.raises(IntegrityError):
        list(members(file))


@pytest.mark.parametrize("cut", [10, 200, -10])
def test_a_truncated_archive(tmp_path: Path, cut: int) -> None:
    for file in (
        sdist(tmp_path, ("demo-1.0/a", os.urandom(4000))),
        wheel(tmp_path, ("demo/a", os.urandom(4000), 0o100644)),
    ):
        file.write_bytes(file.read_bytes()[:cut])
        with pytest.raises(IntegrityError) as caught:
            list(members(file))
        assert str(file) in caught.value.message or file.name in caught.value.message


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    for name in ("demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl"):
        (tmp_path / name).write_bytes(b"<html>no such page</html>")
        with pytest.raises(IntegrityError, match="not a readable archive"):
            list(members(tmp_path / name))


def pax(**records: str) -> tarfile.TarInfo:
    """Return a header whose extended header holds these records."""
    info = tarfile.TarInfo("demo-1.0/a")
    info.pax_headers = records
    return info


@pytest.mark.parametrize("mtime", ["inf", "-inf", "nan", "-1", "1e300"])
def test_a_time_that_no_commit_can_have_is_the_epoch(tmp_path: Path, mtime: str) -> None:
    (member,) = members(sdist(tmp_path, ("demo-1.0/a", pax(mtime=mtime))))
    assert member.mtime == 0


@pytest.mark.parametrize("size", ["-512", "-1024", "-1"])
def test_a_size_below_nothing(tmp_path: Path, size: str) -> None:
    with pytest.raises(IntegrityError, match=r"demo-1\.0"):
        list(members(sdist(tmp_path, ("demo-1.0/a", pax(size=size)))))


def raw(path: Path, data: bytes) -> Path:
    file = path / "demo-1.0.tar.gz"
    file.write_bytes(gzip.compress(data, 1))
    return file


def block(kind: bytes, size: int, name: str = "demo-1.0/a") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [1 << 30, -1024])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes, size: int) -> None:
    with pytest.raises(IntegrityError, match=r"demo-1\.0/a.*header"):
        list(members(raw(tmp_path, block(tarfile.REGTYPE, 0) + block(kind, size) + bytes(10 << 20))))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_without_end(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(IntegrityError, match="demo-1"):
        list(members(raw(tmp_path, block(kind, 0) * 1500 + block(tarfile.REGTYPE, 0) + bytes(1024))))


def test_a_broken_header_is_not_the_end(tmp_path: Path) -> None:
    """`tarfile` takes it for the end, and would leave out what comes behind it."""
    broken = block(tarfile.REGTYPE, 0, "demo-1.0/b").replace(b"ustar", b"USTAR")
    with pytest.raises(IntegrityError, match=r"demo-1\.0/b.*broken header"):
        list(members(raw(tmp_path, block(tarfile.REGTYPE, 0) + broken + bytes(1024))))
