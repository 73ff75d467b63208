"""``whinchat export`` killed at any system call, or on a disk that fills up or is read-only from there on."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers import tiny_questions
from tests.helpers.crash_lab import CrashLab, check_crashes
from tests.helpers.exports import TEXTS, texts_file

EVERYWHERE = [
    pytest.param(kind, error, points, marks=pytest.mark.slow, id=f"{kind}-{name}-everywhere")
    for kind, points in (("merged", None), ("classifier", None), ("gguf", None), ("onnx", 20))
    for name, error in (("killed", 0), ("full", errno.ENOSPC), ("read-only", errno.EROFS))
]


@pytest.mark.parametrize(
    ("kind", "error", "points"),
    [
        pytest.param("gguf", 0, 3, id="gguf-killed"),
        pytest.param("classifier", errno.ENOSPC, 2, id="classifier-full"),
        *EVERYWHERE,
    ],
)
def test_the_same_command_ends_in_the_same_bytes(
    crash_lab: CrashLab, trained: Path, tmp_path: Path, kind: str, error: int, points: int | None
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    folder, texts = tmp_path / "work", texts_file(tmp_path, TEXTS[:4])

    def prepare() -> Sequence[str | Path]:
        arguments = ("export", trained, "--to", kind, "--out", folder / "out", "--data", texts)
        return (*arguments, "--tolerance", "1")

    calls = check_crashes(crash_lab, folder, prepare, points=points, error=error)
    assert calls > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["merged", "gguf"])
def test_all_questions_end_in_the_same_bytes(crash_lab: CrashLab, tiny_llama: Path, tmp_path: Path, kind: str) -> None:
    trained, folder, texts = tiny_questions.finished_run(tiny_llama), tmp_path / "work", tmp_path / "texts.csv"
    texts.write_text("title,body\nrain,good day\ntea,bad day\n", encoding="utf-8")

    def prepare() -> Sequence[str | Path]:
        return ("export", trained, "--to", kind, "--out", folder / "out", "--data", texts, "--tolerance", "1")

    assert check_crashes(crash_lab, folder, prepare, points=10) > 20
