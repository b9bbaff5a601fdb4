"""The overlay of the vLLM CUDA wheel against cp, and against unpacking and packing with `wheel`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from common import Contender, peak_memory, race, run, show

ROOT = Path(__file__).parents[1]

# In a process of its own, as a user's is, and without what happens before a wheel is written.
OVERLAY = """
import sys
from pathlib import Path
from toolkit.progress import Quiet
from patchset.store.objects import new_file
from patchset.wheels.overlay import WheelChange, Graft, overlay
from patchset.wheels.rawzip import RawArchive
from patchset.store.objects import blob_id
official, out = Path(sys.argv[1]), Path(sys.argv[2])
name = "vllm/model_executor/layers/quantization/modelopt.py"
other = "vllm/model_executor/layers/linear.py"
with RawArchive(official) as archive:
    old = {path: archive.read(path) for path in (name, other)}
changes = {path: WheelChange(blob_id(data), new_file(0o100644, data + b"# changed\\n")) for path, data in old.items()}
overlay(official, Graft(changes, "0.30.0+patchset.bench", b"{}", "vllm/_version.py"), out, Quiet())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wheel-rounds", type=int, default=1, help="`wheel unpack` and `pack` take half a minute")
    arguments = parser.parse_args()
    from patchset.project.project import load
    from patchset.sources.archive import download
    from toolkit.progress import Quiet

    component = load(ROOT).component("vllm")
    base = component.base("v0.30.0")
    assert base is not None
    wheel = next(item for item in base.wheels if item.variant == "cuda" and item.platform.endswith("x86_64"))
    official = download(wheel, Quiet())
    with tempfile.TemporaryDirectory(prefix="patchset-bench-") as temporary:
        folder = Path(temporary)
        python = sys.executable

        def repack() -> None:
            run(python, "-m", "wheel", "unpack", official, "-d", folder / "unpacked")
            run(python, "-m", "wheel", "pack", next((folder / "unpacked").iterdir()), "-d", folder)
            shutil.rmtree(folder / "unpacked")

        quick = race(
            [
                Contender("cp", lambda: run("cp", "--reflink=never", official, folder / "copy.whl")),
                Contender("start-up", lambda: run(python, "-c", "import patchset.wheels.overlay, zipfile")),
                Contender("overlay", lambda: run(python, "-c", OVERLAY, official, folder)),
            ],
            arguments.rounds,
        )
        memory = peak_memory()
        slow = race([Contender("wheel unpack, wheel pack", repack)], arguments.wheel_rounds)
        net = {"overlay beyond start-up": quick["overlay"] - quick["start-up"]}
        notes = {"overlay beyond start-up": "aim: under 3 x cp"}
        show("two files of the vLLM CUDA wheel replaced, medians", {**quick, **net, **slow}, "cp", notes)
        print(f"peak memory of an overlay: {memory:.0f} MB (aim: under 300)")


if __name__ == "__main__":
    main()
