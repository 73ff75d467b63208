"""Runs side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.helpers.run_records import THREE, labels_of, run_record, with_manifest
from whinchat.errors import RunError
from whinchat.evaluation.results import Prediction
from whinchat.report.comparison import compare_records
from whinchat.report.comparison_tables import comparison_table, pair_table
from whinchat.storage.predictions import StoredPredictions


def test_rows_hold_the_figures_of_their_records() -> None:
    records = {"full": run_record(), "scored": run_record(generate=False)}
    full, scored = compare_records(records).rows
    assert (full.name, full.method, full.rows) == ("full", "DoRA", 600)
    assert full.after_macro_f1 == records["full"].after.score.macro_f1
    assert full.after_interval == records["full"].after.score.intervals["macro_f1"]
    assert full.train_seconds == 452.0
    assert (scored.generate_macro_f1, scored.invalid_rate) == (None, None)
    assert compare_records(records).notes == ()


def test_table_and_json_say_the_same() -> None:
    comparison = compare_records({"full": run_record(), "scored": run_record(generate=False)})
    table = comparison_table(comparison)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.rows[1][10:13] == ("not measured",) * 3
    assert json.loads(json.dumps(comparison.to_dict()))["rows"][0]["name"] == "full"


def test_runs_measured_on_different_rows_are_told_apart() -> None:
    record = run_record()
    other = replace(record, after=replace(record.after, split_fingerprint="other"))
    comparison = compare_records({"a": record, "b": other, "c": record})
    assert [row.measured_on for row in comparison.rows] == [1, 2, 1]
    assert comparison.notes == (
        "The runs were evaluated on different rows; compare only runs within a group: [1] a, c; [2] b.",
    )
    assert [row[0] for row in comparison_table(comparison).rows] == ["a [1]", "b [2]", "c [1]"]


def test_other_obstacles_are_noted() -> None:
    chosen = with_manifest(run_record(), selected_on="validation", device="cuda (H100)")
    notes = " ".join(compare_records({"a": chosen, "b": run_record(labels_of(2))}).notes)
    assert "have different labels" in notes
    assert "so their metrics are optimistic: a" in notes
    assert "different devices: cpu, cuda (H100)" in notes


def test_runs_on_the_same_rows_are_tested_two_by_two() -> None:
    expected = (0, 1, 2) * 40
    right = tuple(_prediction(label) for label in expected)
    # The second is wrong in a quarter of the rows.
    worse = tuple(_prediction((label + (row % 4 == 0)) % 3) for row, label in enumerate(expected))
    sides = {
        name: StoredPredictions(THREE, ("text",) * 120, expected, None, after)
        for name, after in {"a": right, "b": worse, "c": right}.items()
    }
    comparison = compare_records({name: run_record() for name in sides}, sides)
    first = comparison.pairs[0]
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (first.paired.fixed, first.paired.broken) == (0, 30)
    assert first.paired.mcnemar_p < 1e-6
    assert first.paired.interval.high < 0
    assert comparison.pairs[1].paired.macro_f1_gain == 0.0
    assert pair_table(comparison).rows[0][:3] == ("a", "b", "-0.250")
    assert "the 3 paired tests are not corrected" in " ".join(comparison.notes)
    other = replace(run_record(), after=replace(run_record().after, split_fingerprint="other"))
    assert compare_records({"a": run_record(), "b": other}, {"a": sides["a"], "b": sides["b"]}).pairs == ()


def _prediction(label: int) -> Prediction:
    return Prediction(tuple(0.0 if at == label else -5.0 for at in range(3)), None, None)


def test_comparing_nothing_says_what_to_do() -> None:
    with pytest.raises(RunError, match="no runs given"):
        compare_records({})
