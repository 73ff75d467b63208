"""From a result to files: JSON, Markdown and figures beside it; the page in docs on request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import write_figures
from benchmarks.process import ROOT
from benchmarks.tables import page

DOCS = ROOT / "docs"


def save(result: Mapping[str, Any], path: Path) -> Path:
    """Write the JSON; values that JSON cannot hold are a mistake, not a null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> dict[str, Any]:
    """What ``save`` wrote."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def write(result: Mapping[str, Any], path: Path) -> list[Path]:
    """The JSON at ``path``, the tables and figures beside it under its name."""
    table = path.with_suffix(".md")
    written = [save(result, path)]
    table.write_text(page(result), encoding="utf-8")
    return [*written, table, *write_figures(result, path.parent, f"{path.stem}-").values()]


def publish(result: Mapping[str, Any], docs: Path = DOCS) -> list[Path]:
    """``benchmarks.md`` in ``docs``, with its images."""
    images = write_figures(result, docs / "images", "benchmarks-")
    target = docs / "benchmarks.md"
    target.write_text(page(result, {name: f"images/{path.name}" for name, path in images.items()}), encoding="utf-8")
    return [target, *images.values()]
