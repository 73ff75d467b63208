"""A metric registered from outside appears everywhere, and the metrics of whinchat keep their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, log_loss, precision_score

from tests.helpers.run_records import run_record
from whinchat.evaluation.metric_registry import METRICS, Metric, register_metric, unregister_metric
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.results import Evaluation, Metrics
from whinchat.pipelines.record import tracker_metrics
from whinchat.recipe.schema import EvaluateConfig, MetricName
from whinchat.report.card import card_data
from whinchat.report.comparison import compare_records
from whinchat.report.comparison_tables import comparison_table
from whinchat.report.formatting import NOT_MEASURED, format_metric
from whinchat.report.tables import headline_table
from whinchat.storage.json_records import from_json, to_json
from whinchat.storage.run_record import RunRecord

LABELS = ("negative", "neutral", "positive")
DRAW = np.random.default_rng(0)
EXPECTED = DRAW.integers(0, 3, 300)
PROBABILITIES = DRAW.dirichlet([1, 1, 1], 300) * 0.6 + np.eye(3)[EXPECTED] * 0.4
PREDICTED = PROBABILITIES.argmax(axis=1)


def macro_precision(matrices: Any) -> Any:
    """Precision of each label averaged over labels, (R,), of confusion matrices (R, K, K + 1)."""
    size = matrices.shape[1]
    answered = matrices[:, :, :size].sum(axis=1)
    return (matrices.diagonal(axis1=1, axis2=2) / answered.clip(min=1)).mean(axis=1)


PRECISION = Metric("macro_precision", "macro precision", macro_precision, hub_id="precision",
                   hub_arguments={"average": "macro"})  # fmt: skip
KAPPA = Metric("kappa", "Cohen's kappa", cohen_kappa_score, needs="predictions")


def nats(expected: Any, probabilities: Any) -> float:
    """Log loss, also of rows that lack a label."""
    return float(log_loss(expected, probabilities, labels=range(probabilities.shape[1])))


LOSS = Metric("nats", "log loss", nats, needs="probabilities", higher_is_better=False)


@pytest.fixture(autouse=True)
def added() -> Iterator[None]:
    for metric in (PRECISION, KAPPA, LOSS):
        register_metric(metric)
    yield
    for metric in (PRECISION, KAPPA, LOSS):
        unregister_metric(metric.name)


def measure(mode: Any = "score") -> Metrics:
    scores = None if mode == "generate" else LabelScores(np.log(PROBABILITIES), PROBABILITIES)
    return compute_metrics(
        mode, LABELS, EXPECTED, PREDICTED, EvaluateConfig(bootstrap_resamples=200), scores=scores, seconds=1.0
    )  # fmt: skip


@pytest.fixture
def record() -> RunRecord:
    evaluation = Evaluation("validation", "b" * 64, measure(), measure("generate"))
    return replace(run_record(), before=evaluation, after=evaluation)


def test_values_are_those_of_the_function_with_an_interval_around_them() -> None:
    metrics = measure()
    assert metrics.values["macro_precision"] == pytest.approx(precision_score(EXPECTED, PREDICTED, average="macro"))
    assert metrics.values["kappa"] == cohen_kappa_score(EXPECTED, PREDICTED)
    assert metrics.values["nats"] == log_loss(EXPECTED, PROBABILITIES)
    for name in ("macro_precision", "kappa", "nats"):
        assert metrics.intervals[name].low < metrics.values[name] < metrics.intervals[name].high


@pytest.mark.filterwarnings("ignore")  # scikit-learn warns of labels that do not occur
def test_values_that_are_not_finite_count_as_not_measured() -> None:
    one_label = np.zeros(20, dtype=np.int64)
    settings = EvaluateConfig(bootstrap_resamples=100)
    metrics = compute_metrics("generate", LABELS, one_label, one_label, settings)
    assert np.isnan(cohen_kappa_score(one_label, one_label))
    assert "kappa" not in metrics.values
    assert "kappa" not in metrics.intervals
    few = compute_metrics("generate", LABELS, np.array([0, 0, 1]), np.array([0, 0, 1]), settings)
    assert few.intervals["kappa"].high == 1.0, "resamples of one label alone have no kappa, and are left out"


def test_the_json_holds_it_beside_the_other_metrics() -> None:
    metrics = measure()
    stored = to_json(metrics)
    keys = list(stored)
    assert keys[keys.index("accuracy") + 1 : keys.index("invalid_rate")] == ["macro_precision", "kappa", "nats"]
    assert set(stored["intervals"]) == set(METRICS)
    assert from_json(Metrics, stored) == metrics


def test_free_generation_has_no_metric_of_probabilities() -> None:
    metrics = measure("generate")
    assert "nats" not in metrics.values
    assert format_metric(metrics, "nats") == NOT_MEASURED
    assert "kappa" in metrics.values


def test_tables_card_trackers_and_comparison_show_it(record: RunRecord) -> None:
    kappa = record.after.score.values["kappa"]
    shown = {row[1]: row[3] for row in headline_table(record).rows if row[0] == "label scoring"}
    assert shown["Cohen's kappa"].startswith(f"{kappa:.3f} (")
    assert "log loss (lower is better)" in shown
    metadata = card_data(record).to_dict()
    results = metadata["model-index"][0]["results"][0]["metrics"]
    assert metadata["metrics"] == ["f1", "recall", "accuracy", "precision", "kappa", "nats"]
    assert {"name": "Cohen's kappa, label scoring", "type": "kappa", "value": kappa}.items() <= next(
        result for result in results if result["type"] == "kappa"
    ).items()
    assert tracker_metrics(record)["eval_after_kappa"] == kappa
    # Without a calibrator, label scoring is what `whinchat predict` answers by.
    comparison = compare_records({"one": replace(record, reliability=None)})
    assert comparison.to_dict()["rows"][0]["kappa"] == kappa
    assert "Cohen's kappa" in comparison_table(comparison).columns


def test_a_record_without_it_says_not_measured() -> None:
    shown = {row[1]: row[2:] for row in headline_table(run_record()).rows if row[0] == "label scoring"}
    assert shown["Cohen's kappa"] == (NOT_MEASURED, NOT_MEASURED)


def test_what_comes_with_whinchat_draws_as_before() -> None:
    with_others = measure()
    unregister_metric("kappa")
    alone = measure()
    register_metric(KAPPA)
    assert {name: with_others.intervals[name] for name in alone.intervals} == alone.intervals
    assert list(METRICS)[:3] == ["macro_f1", "macro_recall", "accuracy"]


def test_every_metric_with_a_decision_rule_is_registered_with_its_scorer() -> None:
    assert {name for name, metric in METRICS.items() if metric.sklearn_scorer} == set(get_args(MetricName))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kappa", "kappa: already registered; choose another name"),
        ("per cent", "'per cent': not an identifier"),
        ("seconds", "seconds: is another key of the evaluation's JSON"),
    ],
)
def test_names_that_cannot_be_used_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_metric(replace(KAPPA, name=name))
