"""Time to quality, and the cost of ten million answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cost import Quality, answers_cost, stored_ratios, time_to_quality, trial_quality


def entry(title: str, rate: float) -> dict[str, Any]:
    return {"title": title, "per_second": {"median": rate, "min": rate, "max": rate}}


def test_trials_of_a_name_are_read_with_all_seeds(tmp_path: Path) -> None:
    def line(name: str, macro_f1: float) -> str:
        part = {"macro_f1": {"0.0": macro_f1}}
        return json.dumps({"name": name, "validation": part, "held_out": part}) + "\n"

    trials = tmp_path / "trials.jsonl"
    trials.write_text(line("full-10k-s42", 0.5) + line("full-10k-s43", 0.7) + line("full-10k-more-s42", 0.9))
    assert trial_quality("full-10k", trials) == Quality((0.5, 0.7), (0.5, 0.7))
    assert trial_quality("none", trials) == Quality((), ())


def test_an_epoch_takes_what_the_measured_rate_says() -> None:
    page = time_to_quality({"whinchat-full": entry("all", 20), "whinchat-layers-16": entry("few", 60)})
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[:3] for row in rows[1:]] == [
        ["| all", "8 min 20 s", "1.00"],
        ["| few", "2 min 47 s", "3.00"],
    ]


def test_hours_for_ten_million() -> None:
    page = answers_cost({"whinchat-merged": entry("all", 100), "minilm": {"title": "x", "per_second": None}}, None)
    assert "| all | 100 | 27.8 |" in page
    assert "| x |" not in page
    alone = {"way": "runs/a", "layers": None, "texts_per_second": 100, "range": [90, 110], "ratio": 1.0}
    way = {"way": "runs/a with its student", "layers": 16, "texts_per_second": 400, "range": [390, 410], "ratio": 4.0}
    alone |= {"by_student": 0, "hours_for_ten_million": 27.8}
    way |= {"by_student": 0.5, "hours_for_ten_million": 6.94}
    page = answers_cost({}, {"machine": {"processor": "a processor"}, "ways": [alone, way]})
    assert "| runs/a | all | 100 (90 to 110) | 1.00 | - | 27.8 |" in page
    assert "| runs/a with its student | the first 16 | 400 (390 to 410) | 4.00 | 50 % | 6.9 |" in page
    assert "a processor" in page
    assert "`python -m benchmarks.answer_cost runs/a --texts TABLE`" in page


def test_ratios_of_other_commands(tmp_path: Path) -> None:
    answers, lone = tmp_path / "answers.json", tmp_path / "lone.json"
    missing = {"answers_cascade_vs_full_depth": None, "lone_text_vs_pipeline": None}
    assert stored_ratios(answers, lone) == missing
    ways = [{"ratio": 2.0, "by_student": 0}, {"ratio": 3.0, "by_student": 0.4}]
    answers.write_text(json.dumps({"ways": ways}))
    lone.write_text(json.dumps({"ratio": 1.1}))
    assert stored_ratios(answers, lone) == {
        "answers_cascade_vs_full_depth": 3.0,
        "lone_text_vs_pipeline": pytest.approx(1.1),
    }
