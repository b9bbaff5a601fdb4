"""apply, no-op and unapply against git am, quilt, patch and git apply, on the real vLLM tree.

Six patches to six files of the pinned release, written here; every tool gets the same tree and the same series.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from common import Contender, peak_memory, race, run, show

ROOT = Path(__file__).parents[1]
FILES = (
    "vllm/config/model.py",
    "vllm/entrypoints/llm.py",
    "vllm/model_executor/layers/linear.py",
    "vllm/model_executor/layers/quantization/modelopt.py",
    "vllm/model_executor/models/qwen2_5_vl.py",
    "vllm/sampling_params.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="patchset-bench-") as folder:
        compare(Path(folder), rounds)


def compare(folder: Path, rounds: int) -> None:
    root = make_project(folder / "root")
    tool = (sys.executable, "-m", "patchset", "--root", root)
    series = root / "patches/vllm/v0.30.0"
    names = [series / name for name in (series / "series").read_text().split()]
    theirs = folder / "theirs"
    run("git", "clone", "-q", root / "extern/vllm", theirs)
    base = run("git", "rev-parse", f"HEAD~{len(FILES)}", cwd=theirs).strip()
    run("git", "checkout", "-q", "--detach", base, cwd=theirs)

    def reset() -> None:
        run("git", "reset", "-q", "--hard", base, cwd=theirs)
        shutil.rmtree(theirs / ".pc", ignore_errors=True)

    def patched() -> None:
        reset()
        run("git", "apply", *names, cwd=theirs)

    quilt = {"QUILT_PATCHES": str(series)}
    contenders = [
        Contender("start-up", lambda: run(*tool, "apply", "--help")),
        Contender("git apply", lambda: run("git", "apply", "--index", *names, cwd=theirs), reset),
        Contender("git apply -R", lambda: run("git", "apply", "-R", *names, cwd=theirs), patched),
        Contender("git am", lambda: run("git", "am", "-q", *names, cwd=theirs), reset),
        Contender("apply", lambda: run(*tool, "apply"), lambda: run(*tool, "unapply")),
        Contender("no-op", lambda: run(*tool, "apply")),
        Contender("unapply", lambda: run(*tool, "unapply"), lambda: run(*tool, "apply")),
    ]
    if shutil.which("quilt"):
        push = Contender("quilt push -a", lambda: run("quilt", "push", "-aq", cwd=theirs, env=quilt), reset)
        contenders.insert(4, push)
    medians = race(contenders, rounds)
    start = medians["start-up"]
    net = {f"{name} beyond start-up": medians[name] - start for name in ("apply", "no-op", "unapply")}
    notes = {
        "apply beyond start-up": "aim: at most 2 x git apply",
        "no-op beyond start-up": "aim: under 5 ms",
        "start-up": "aim: under 150 ms",
    }
    show("six patches on vLLM v0.30.0, medians", {**medians, **net}, "git apply", notes)
    print(f"peak memory of any process: {peak_memory():.0f} MB (aim: under 300)")


def make_project(root: Path) -> Path:
    """Make a project whose series for vLLM are six patches of ours, applied once."""
    shutil.copytree(ROOT / "patches/vllm", root / "patches/vllm")
    series = root / "patches/vllm/v0.30.0"
    for file in series.glob("*.patch"):
        file.unlink()
    (series / "series").write_text("")
    base = (series / "base.toml").read_text().splitlines(keepends=True)
    (series / "base.toml").write_text("".join(line for line in base if not line.startswith("patched-tree")))
    run(sys.executable, "-m", "patchset", "--root", root, "apply", "--source", "archive")
    work = root.parent / "work"
    run("git", "clone", "-q", root / "extern/vllm", work)
    for number, name in enumerate(FILES):
        file = work / name
        lines = file.read_text().splitlines(keepends=True)
        middle = len(lines) // 2
        file.write_text("".join([*lines[:middle], f"# patch {number}\n", *lines[middle:], f"# end {number}\n"]))
        who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        run("git", *who, "commit", "-qam", f"p{number}", cwd=work)
        text = run("git", "format-patch", "-1", "--stdout", "--full-index", "--zero-commit", cwd=work)
        (series / f"p{number}.patch").write_text(text)
        with (series / "series").open("a") as stream:
            stream.write(f"p{number}.patch\n")
    run(sys.executable, "-m", "patchset", "--root", root, "apply")
    return root


if __name__ == "__main__":
    main()
