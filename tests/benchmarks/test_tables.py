"""Tables and figures of a made-up result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tables
from tests.helpers import benchmark_results


def test_tables_say_what_was_measured_and_what_was_not() -> None:
    text = tables.page(benchmark_results.result())
    assert "| training, k/v, against TRL float32 | 16.00 | 12.80 to 16.00 |" in text
    assert "| training, all linear, against TRL bf16 | not measured |  |" in text
    assert "| whinchat LoRA | 32.0 (25.6 to 32.0) | 128 | 954 MiB | 78.1 tokens |" in text
    assert "| llama.cpp | not measured |  |  | llama-cpp-python is not installed |" in text
    assert "RuntimeError: a\\|b c (at round)" in text
    assert "625 GFLOP/s (500 to 1000)" in text
    assert "commit 0123456789ab with uncommitted changes" in text
    assert "8.0 s to start and 20.0 ms a text" in text
    assert "56 hours for ten million texts and 5,556 hours for one billion" in text
    assert "![" not in text


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    result = benchmark_results.result()
    written = tables.write(result, tmp_path / "some.json")
    assert [path.name for path in written] == [
        "some.json", "some.md", "some-training.png", "some-scoring.png", "some-growth.png",
    ]  # fmt: skip
    assert all(path.stat().st_size > 0 for path in written)
    assert json.loads((tmp_path / "some.json").read_text(encoding="utf-8")) == result


def test_publishing_links_the_images(tmp_path: Path) -> None:
    written = tables.publish(benchmark_results.result(), tmp_path)
    assert written[0] == tmp_path / "benchmarks.md"
    text = written[0].read_text(encoding="utf-8")
    assert "](images/benchmarks-training.png)" in text
    assert (tmp_path / "images" / "benchmarks-growth.png").is_file()


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        tables.save({"ratio": float("nan")}, tmp_path / "x.json")
