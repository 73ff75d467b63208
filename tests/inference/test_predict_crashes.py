"""``whinchat predict`` killed at any system call, or on a disk that fills up or is read-only from there on."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import tiny_models
from tests.helpers.crash_lab import CrashLab, check_crashes

TEXTS = tiny_models.toy_rows(6, tiny_models.ONE_TOKEN, 3)[0]


def write_source(folder: Path, kind: str) -> Path:
    """A table of three parts, or a folder of two tables; the time of the last change is always the same."""
    if kind == "folder":
        path = folder / "tables"
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "b.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS), encoding="utf-8")
        (path / "a.tsv").write_text("\n".join(["text", *TEXTS, "broken\tbroken"]), encoding="utf-8")
    elif kind == "parquet":
        path = folder / "in.parquet"
        pq.write_table(pa.table({"text": TEXTS}), path, row_group_size=2)  # a part for each group
    else:
        path = folder / "in.csv"
        path.write_text("\n".join(["text", *TEXTS]), encoding="utf-8")
    for file in folder.rglob("*"):
        os.utime(file, (0, 0))
    return path


EVERYWHERE = [
    pytest.param(kind, error, None, marks=pytest.mark.slow, id=f"{kind}-{name}-everywhere")
    for kind in ("csv", "parquet", "folder")
    for name, error in (("killed", 0), ("full", errno.ENOSPC), ("read-only", errno.EROFS))
]


@pytest.mark.parametrize(
    ("kind", "error", "points"),
    [
        pytest.param("parquet", 0, 4, id="parquet-killed"),
        pytest.param("folder", errno.ENOSPC, 2, id="folder-full"),
        *EVERYWHERE,
    ],
)
def test_the_same_command_ends_in_the_same_bytes(
    crash_lab: CrashLab, trained: Path, tmp_path: Path, kind: str, error: int, points: int | None
) -> None:
    folder = tmp_path / "work"

    def prepare() -> Sequence[str | Path]:
        source = write_source(folder, kind)
        return ("predict", trained, source, "--out", folder / f"out{source.suffix}")

    calls = check_crashes(crash_lab, folder, prepare, points=points, error=error)
    assert calls > 20
