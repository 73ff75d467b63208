"""The table of architectures: what a verdict is, and how the page shows it."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.zoo.examine import examine, judge
from benchmarks.zoo.page import faults, page
from benchmarks.zoo.speed import WIDTH, widened

from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    run = {"command": "python -m benchmarks.zoo", "date": "2026-11-26", "commit": "0123456789abcdef"}
    return {
        "provenance": {**run, "uncommitted_changes": False},
        "versions": {"torch": "2", "transformers": "5", "peft": "0"},
        "seconds": 60.0,
        "rows": rows,
    }


def refuse() -> None:
    raise ModelError("/tmp/zoo-1/model: no such layer\nsecond line")


def divide() -> None:
    _ = 1 / 0


def differ() -> None:
    raise AssertionError("off by 1")


def test_a_verdict_is_what_the_check_raises() -> None:
    assert judge(lambda: None) == {"verdict": "right"}
    assert judge(refuse, "/tmp/zoo-1") == {"verdict": "refused", "reason": "model: no such layer"}
    assert judge(differ) == {"verdict": "WRONG", "reason": "off by 1"}
    assert judge(divide) == {"verdict": "TRACEBACK", "reason": "ZeroDivisionError: division by zero"}


def test_the_page_shows_every_verdict() -> None:
    right, refused = {"verdict": "right"}, {"verdict": "refused", "reason": "gguf: supports llama, not b; export"}
    good = {"name": "A", "model_type": "a", "load": right, "way": "packed", "scores": right, "run": right}
    good |= {"gguf": refused, "speed": {"train": 0.9, "score": 1.0}}
    other = {
        "name": "B",
        "model_type": "b",
        "load": right,
        "way": "rows",
        "scores": {"verdict": "WRONG", "reason": "x|y"},
    }
    other |= {"run": {"verdict": "TRACEBACK", "reason": "KeyError: c"}}
    barred = {"name": "C", "model_type": "c", "load": refused, "run": refused}
    text = page(result(good, other, barred))
    unmeasured = "not measured | not measured"
    assert (
        f"| A | `a` | packed | fast | {unmeasured} | right | {unmeasured} | refused (1) | not measured | 0.90 | 1.00 |"
        in text
    )
    assert f"| B | `b` | rows | **WRONG** (2) | {unmeasured} | **TRACEBACK** (3) | - | - | - | - |  |  |" in text
    assert "| C | `c` | - | refused (1) | - | - | refused (1) | - | - | - | - |  |  |" in text
    assert "\n1. gguf: supports llama, not b; export\n2. x\\|y\n3. KeyError: c\n" in text
    assert faults(result(good, other, barred)) == ["B: scores: WRONG: x|y", "B: run: TRACEBACK: KeyError: c"]


def test_an_architecture_is_examined() -> None:
    row = examine("Qwen2", skipped=("run", "speed"))
    verdicts = [row[column]["verdict"] for column in ("load", "scores", "gradients", "generation")]
    assert (row["way"], verdicts) == ("packed", ["right"] * 4)


@pytest.mark.parametrize("name", ["GPT-2", "DBRX", "Qwen3.5", "xLSTM"])
def test_a_wide_model_computes(name: str) -> None:
    config = widened(ZOO[name]).config().get_text_config()
    assert WIDTH in (getattr(config, "hidden_size", None), getattr(config, "d_model", None))
