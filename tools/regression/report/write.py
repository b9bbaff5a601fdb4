"""Writing a report's three forms, each whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from regression.model.result import Session
from regression.report import render


def write(session: Session, folder: Path, difference: list[str] | None) -> list[Path]:
    """Write `report.json`, `report.md` and `report.html` into `folder`; return the files."""
    report = session.as_json()
    texts = {
        "report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": render.markdown(report, difference),
        "report.html": render.html(report, difference),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, "utf-8")
        temporary.replace(folder / name)
    return [folder / name for name in texts]
