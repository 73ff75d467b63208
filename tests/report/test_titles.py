"""Titles are sentences that follow from the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.run_records import recipe, run_record, with_manifest
from whinchat.recipe.task import Task
from whinchat.report.card import build_card
from whinchat.report.titles import (
    accuracy_title,
    change,
    coverage_title,
    macro_f1_title,
    reliability_title,
    run_title,
    training_title,
)
from whinchat.storage.run_record import RunRecord


def with_macro_f1(before: float, after: float) -> RunRecord:
    record = run_record()
    old, new = (
        replace(evaluation, score=replace(evaluation.score, values={**evaluation.score.values, "macro_f1": value}))
        for evaluation, value in ((record.before, before), (record.after, after))
    )
    assert record.reliability is not None
    shipped = replace(record.shipped, values={**record.shipped.values, "macro_f1": after})
    return replace(record, before=old, after=new, reliability=replace(record.reliability, calibrated=shipped))


@pytest.mark.parametrize(
    ("source", "commit", "name"),
    [
        ("package:smollm2-135m-instruct", "f" * 64, "SmolLM2-135M-Instruct"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "a" * 40, "TinyLlama-1.1B-Chat-v1.0"),
        ("/home/someone/my-model/", None, "my-model"),
    ],
)
def test_the_title_is_a_sentence_with_model_method_and_task(source: str, commit: str | None, name: str) -> None:
    task = Task(name="tweet-sentiment", labels=("a", "b"), instruction="Decide.")
    record = with_manifest(run_record(), model_source=source, model_commit=commit, load_in="nf4")
    record = replace(record, recipe=recipe(("a", "b"), task=task))
    assert run_title(record) == f"{name} with QDoRA classifies texts by tweet sentiment"
    assert run_title(record, "owner/other") == "other with QDoRA classifies texts by tweet sentiment"


def test_the_card_begins_with_the_title_and_the_main_result() -> None:
    text = build_card(with_macro_f1(0.2123, 0.7891)).text
    assert text.lstrip().startswith("# SmolLM2-135M-Instruct with DoRA classifies texts by tweet sentiment\n")
    assert "Macro-F1 rose from 0.21 to 0.79 on 600 validation texts (calibrated answers)." in text


def test_titles_state_changes_of_the_record() -> None:
    assert change(0.7, 0.65) == "fell from 0.70 to 0.65"
    assert change(0.701, 0.704) == "stayed at 0.70"
    record = with_macro_f1(0.5, 0.5)
    assert macro_f1_title(record) == "Macro-F1 stayed at 0.50 on 600 validation texts"
    other = replace(record, after=replace(record.after, split_fingerprint="other"))
    assert macro_f1_title(other) == "Macro-F1 before and after training, on different texts"
    assert (
        reliability_title(record, [0.2, 0.3, 0.1]) == "Calibration error fell from 0.20 to 0.10 on 600 validation texts"
    )
    assert training_title(record).startswith("Training loss fell from ")
    assert training_title(record).endswith(" in 600 steps")


def test_titles_are_neutral_where_a_value_is_missing() -> None:
    record = run_record(points=0)
    assert training_title(record) == "Training loss"
    assert reliability_title(record, []) == "Confidence and accuracy on 600 validation texts"
    generate = record.after.generate
    assert accuracy_title(record, "free generation", None, None) == "Free generation: accuracy on the validation split"
    assert accuracy_title(record, "free generation", None, generate).startswith(
        "Free generation: accuracy after training is 0."
    )
    assert record.reliability is not None
    assert coverage_title(record.reliability).startswith("Accuracy is 0.87 on the most confident half of the texts, ")
    without_half = replace(record.reliability, coverage=record.reliability.coverage[:3])
    assert coverage_title(without_half) == "Accuracy if only the most confident predictions are kept"
