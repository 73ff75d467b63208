"""Runs side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.run_records import THREE, labels_of, run_record, with_manifest
from whinchat.errors import RunError
from whinchat.evaluation.results import Prediction
from whinchat.report.comparison import compare_records
from whinchat.report.comparison_tables import comparison_table, differing_settings_table, pair_table, seeds_table
from whinchat.storage.predictions import StoredPredictions
from whinchat.storage.run_record import RunRecord


def test_rows_hold_the_figures_of_their_records() -> None:
    records = {"full": run_record(), "scored": run_record(generate=False)}
    full, scored = compare_records(records).rows
    assert (full.name, full.method, full.rows) == ("full", "DoRA", 600)
    assert full.after_macro_f1 == records["full"].shipped.macro_f1 != full.score_macro_f1
    assert full.after_interval == records["full"].shipped.intervals["macro_f1"]
    assert full.score_macro_f1 == records["full"].after.score.macro_f1
    assert full.train_seconds == 452.0
    assert (scored.generate_macro_f1, scored.invalid_rate) == (None, None)
    assert compare_records(records).notes == ()
    assert compare_records(records).settings == compare_records(records).seed_groups == ()


def with_recipe(name: str, **train: object) -> RunRecord:
    record = run_record()
    changes = {"name": name, "train": record.recipe.train.model_copy(update=train)}
    return replace(record, recipe=record.recipe.model_copy(update=changes))


def test_settings_that_differ_are_named_with_their_values() -> None:
    records = {"a": with_recipe("a"), "b": with_recipe("b", learning_rate=1e-3), "c": with_recipe("c", seed=7)}
    table = differing_settings_table(compare_records(records))
    assert table.columns == ("setting", "a", "b", "c")
    rate = f"{records['a'].recipe.train.learning_rate:g}"
    assert table.rows == (("train.learning_rate", rate, "0.001", rate), ("train.seed", "42", "42", "7"))


def test_seeds_of_one_recipe_are_summed_up() -> None:
    records = {name: with_recipe(name, seed=seed) for name, seed in (("a", 1), ("b", 2), ("d", 3))}
    records["c"] = with_recipe("c", learning_rate=1e-3)
    shipped = records["b"].shipped
    assert records["b"].reliability is not None
    better = replace(shipped, values={**shipped.values, "macro_f1": shipped.macro_f1 + 0.03})
    records["b"] = replace(records["b"], reliability=replace(records["b"].reliability, calibrated=better))
    (group,) = compare_records(records).seed_groups
    assert (group.runs, group.seeds) == (("a", "b", "d"), (1, 2, 3))
    assert group.means["macro_f1"] == pytest.approx(shipped.macro_f1 + 0.01)
    assert group.deviations["macro_f1"] == pytest.approx(np.std([0, 0.03, 0], ddof=1))
    (row,) = seeds_table(compare_records(records)).rows
    assert row[:3] == ("a, b, d", "1, 2, 3", f"{shipped.macro_f1 + 0.01:.3f} ± 0.017")
    elsewhere = replace(records["d"], after=replace(records["d"].after, split_fingerprint="other"))
    (group,) = compare_records({**records, "d": elsewhere}).seed_groups
    assert group.runs == ("a", "b")


def test_table_and_json_say_the_same() -> None:
    comparison = compare_records({"full": run_record(), "scored": run_record(generate=False)})
    table = comparison_table(comparison)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.rows[1][10:13] == ("not measured",) * 3
    assert table.columns[9] == "macro-F1, label scoring"
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
    assert "learned some of the evaluated texts" not in notes
    assert "so their metrics are optimistic: a" in notes
    assert "different devices: cpu, cuda (H100)" in notes


def test_a_model_that_knew_the_evaluated_texts_is_noted() -> None:
    report = {**run_record().manifest.data_report, "learned": {"validation": 3}}
    known = with_manifest(run_record(), data_report=report)
    notes = " ".join(compare_records({"a": run_record(), "b": known}).notes)
    assert "learned some of the evaluated texts, so their metrics are optimistic: b." in notes


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
    notes = " ".join(comparison.notes)
    assert "the 3 paired tests are not corrected" in notes
    assert "`whinchat arena` compares methods" in notes
    # The records say that the answers are calibrated, and the files hold label scores alone.
    assert "store no calibrated answers, because version 0.1.0 calibrated them" in notes
    assert {pair.paired.mode for pair in comparison.pairs} == {"score"}
    calibrated = {
        name: replace(side, after=tuple(replace(one, probabilities=(0.2, 0.1, 0.7)) for one in side.after))
        for name, side in sides.items()
    }
    shipped = compare_records({name: run_record() for name in sides}, calibrated)
    assert (shipped.pairs[0].paired.mode, shipped.pairs[0].paired.broken) == ("calibrated", 0)
    assert "label scoring" not in " ".join(shipped.notes)
    # A pair of which one run has no answers compares like with like.
    mixed = compare_records({name: run_record() for name in sides}, {**calibrated, "b": sides["b"]})
    assert [pair.paired.mode for pair in mixed.pairs] == ["score", "calibrated", "score"]
    assert mixed.pairs[0].paired.broken == 30
    other = replace(run_record(), after=replace(run_record().after, split_fingerprint="other"))
    assert compare_records({"a": run_record(), "b": other}, {"a": sides["a"], "b": sides["b"]}).pairs == ()


def _prediction(label: int) -> Prediction:
    return Prediction(tuple(0.0 if at == label else -5.0 for at in range(3)), None, None)


def test_comparing_nothing_says_what_to_do() -> None:
    with pytest.raises(RunError, match="no runs given"):
        compare_records({})
