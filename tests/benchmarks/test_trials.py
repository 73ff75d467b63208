"""Trials: what is measured, and the table of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import trials
from whinchat.data.dataset import Split


def test_figures_divide_by_the_shares() -> None:
    # Three rows of the common label, one of the rare one, which is second by a little.
    scores = np.log([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.6, 0.4]])
    found = trials.figures(scores, Split("validation", ("a", "b", "c", "d"), (0, 0, 0, 1)))
    assert found["accuracy"] == 0.75
    assert found["macro_recall"]["0.0"] == 0.5
    assert found["macro_recall"]["1.0"] == 1.0, "0.4 / 0.25 is more than 0.6 / 0.75"
    assert found["macro_f1"]["1.0"] == 1.0
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.9, 0.4]).mean())


def test_table_names_what_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"log_loss": 0.5, "accuracy": 0.7, "macro_f1": {"0.0": 0.66}, "macro_recall": {"1.0": 0.71}}
    one = {
        "name": "warm",
        "base": "demo",
        "overrides": ["data.source=/x", "data.train_rows=8000", "train.learning_rate=1e-3"],
        "train_rows": 8000,
        "train_seconds": 60,
        "validation": measured,
        "held_out": measured,
    }
    monkeypatch.setattr(trials, "RESULTS", tmp_path / "trials.jsonl")
    trials.RESULTS.write_text(json.dumps(one) + "\n", encoding="utf-8")
    assert trials.table().splitlines()[-1] == (
        "| warm | `train.learning_rate=1e-3` | 8,000 | 0.5000 | 0.660 | 0.710 | 0.5000 | 0.660 | 0.710 |"
    )
