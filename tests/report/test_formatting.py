"""Numbers and findings in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.run_records import run_record
from whinchat.evaluation.results import DecisionTest, Interval, PairedTest
from whinchat.recipe.method_names import method_name
from whinchat.recipe.model_config import AdapterConfig
from whinchat.report.formatting import (
    abstention_sentence,
    baselines_sentence,
    calibrated_sentence,
    decision_sentence,
    format_bytes,
    format_count,
    format_duration,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
    paired_sentence,
)


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


def test_a_change_that_could_not_be_tested() -> None:
    sentence = paired_sentence(PairedTest("score", 5, 0, 0, 1.0, 0.0, Interval(0.0, 0.0)))
    assert sentence == (
        "With label scoring, none of 5 texts changed from wrong to correct or from correct to wrong, so there is no "
        "change in macro-F1 to test."
    )


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


def test_the_calibration_is_described_in_words() -> None:
    reliability = run_record().reliability
    assert reliability is not None
    sentence = calibrated_sentence(reliability)
    assert "divided by a temperature of 1.37" in sentence
    assert "fitted on 600 texts of the validation split" in sentence
    assert sentence.endswith("(cross-fitting).")
    assert abstention_sentence(reliability.abstention) == (
        'Predictions with a confidence below 0.723 are reported as "unsure". The threshold was chosen for an accuracy '
        "of 90.0 % on the texts that are answered. Of the evaluated texts, 51.3 % are answered (accuracy: 89.1 %)."
    )


@pytest.mark.parametrize(
    ("gain", "low", "sentence"),
    [
        (0.021, 0.004, "The probabilities favour rare labels, because this changes macro recall on validation by "
         "+0.021 (95 % interval: 0.004 to 0.041)."),
        (-0.003, -0.02, "Favouring rare labels would change macro recall on validation by -0.003 (95 % interval: "
         "-0.020 to 0.041), which is not a reliable gain."),
    ],
)  # fmt: skip
def test_the_decision_is_said_with_its_reason(gain: float, low: float, sentence: str) -> None:
    reliability = run_record().reliability
    assert reliability is not None
    test = DecisionTest("macro_recall", 1.0, gain, Interval(low, 0.041))
    said = decision_sentence(replace(reliability, decision=test, tau=float(test.gains)))
    assert said == f"The predicted label is the most probable one. {sentence}"
    assert decision_sentence(replace(reliability, tau=0.0)) == "The predicted label is the most probable one."
    assert "`whinchat calibrate RUN` measures both again" in decision_sentence(reliability)


def test_simple_methods_are_named_the_best_first() -> None:
    majority, tfidf = run_record().baselines
    assert baselines_sentence((majority, tfidf)) == (
        f"On the same texts, simple methods have a macro-F1 of {tfidf.metrics.macro_f1:.3f} with TF-IDF + logistic "
        f"regression and {majority.metrics.macro_f1:.3f} with the most frequent label."
    )
    assert baselines_sentence(()) == ""
