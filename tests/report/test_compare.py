"""Runs side by side, and the words behind numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.helpers.run_records import THREE, labels_of, run_record, with_manifest
from whinchat.errors import RunError
from whinchat.evaluation.results import Interval, PairedTest, Prediction
from whinchat.recipe.schema import AdapterConfig, method_name
from whinchat.report.comparison import compare_records
from whinchat.report.formatting import (
    format_bytes,
    format_count,
    format_duration,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
    paired_sentence,
)
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
    table = comparison.table()
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.rows[1][8:10] == ("not measured", "not measured")
    assert json.loads(json.dumps(comparison.to_dict()))["rows"][0]["name"] == "full"


def test_runs_measured_on_different_rows_are_told_apart() -> None:
    record = run_record()
    other = replace(record, after=replace(record.after, split_fingerprint="other"))
    comparison = compare_records({"a": record, "b": other, "c": record})
    assert [row.measured_on for row in comparison.rows] == [1, 2, 1]
    assert comparison.notes == (
        "The runs were evaluated on different rows; compare only runs within a group: [1] a, c; [2] b.",
    )
    assert [row[0] for row in comparison.table().rows] == ["a [1]", "b [2]", "c [1]"]


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
    assert comparison.pair_table().rows[0][:3] == ("a", "b", "-0.250")
    assert "the 3 paired tests are not corrected" in " ".join(comparison.notes)
    other = replace(run_record(), after=replace(run_record().after, split_fingerprint="other"))
    assert compare_records({"a": run_record(), "b": other}, {"a": sides["a"], "b": sides["b"]}).pairs == ()


def _prediction(label: int) -> Prediction:
    return Prediction(tuple(0.0 if at == label else -5.0 for at in range(3)), None, None)


def test_comparing_nothing_says_what_to_do() -> None:
    with pytest.raises(RunError, match="no runs given"):
        compare_records({})


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "not measured"),
        (0.123, "0.12 s"),
        (9.96, "10.0 s"),
        (59.7, "1 min 00 s"),
        (3599.8, "1 h 00 min"),
        (4000, "1 h 06 min"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_numbers_in_words() -> None:
    assert (
        format_number(None)
        == format_number(float("nan"))
        == format_percent(None)
        == format_count(None)
        == format_bytes(0)
        == "not measured"
    )
    assert format_number(-0.00001) == "0.000"
    assert (format_signed(0.1), format_signed(-0.1), format_signed(0.0)) == ("+0.100", "-0.100", "+0.000")
    assert (format_percent(0.1234), format_count(12345)) == ("12.3 %", "12,345")
    assert (format_bytes(2**30), format_bytes(2**20)) == ("1.00 GiB", "1 MiB")
    assert (format_p_value(0.0004), format_p_value(0.04)) == ("p < 0.001", "p = 0.040")


def test_a_change_that_may_be_chance_is_called_so() -> None:
    sentence = paired_sentence(PairedTest("score", 1200, 5, 9, 0.424, -0.012, Interval(-0.03, 0.01)))
    assert "5 of 1,200 texts changed from wrong to correct and 9 from correct to wrong" in sentence
    assert "Macro-F1 fell by 0.012 (95 % interval of the change: -0.030 to 0.010)" in sentence
    assert sentence.endswith("may be due to chance.")


@pytest.mark.parametrize(
    ("adapter", "load_in", "name"),
    [
        (AdapterConfig(), "bfloat16", "LoRA"),
        (AdapterConfig(), "nf4", "QLoRA"),
        (AdapterConfig(method="dora"), "nf4", "QDoRA"),
        (AdapterConfig(method="rslora"), "nf4", "rsLoRA on NF4"),
    ],
)
def test_methods_have_their_usual_names(adapter: AdapterConfig, load_in: str, name: str) -> None:
    assert method_name(adapter, load_in) == name
