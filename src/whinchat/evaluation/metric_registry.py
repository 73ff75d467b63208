"""The registry of metrics: one entry makes a metric appear in every file, table and tracker.

A registered metric is computed for every evaluation with a bootstrap interval, and is shown in the run folder's JSON,
the headline table of card and report, the card's model-index, the trackers, ``whinchat run``, ``evaluate`` and
``compare``. ``docs/how-to/add-a-metric.md`` shows how to add one.

R: confusion matrices, such as bootstrap resamples. K: labels. N: rows. A confusion matrix is (K, K + 1): rows are true
labels, columns are predicted labels, and the last column counts answers that were no label.

The module imports no heavy library, because tables and readers of files need only the names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from whinchat.evaluation.results import Metrics


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: key in JSON files and trackers.
        title: name in tables and sentences.
        function: computes the metric from what ``needs`` names. A resample may lack a label. A value that is NaN or
            infinite counts as not measured.
        needs: what ``function`` takes.
            ``confusion``: confusion matrices, int (R, K, K + 1); it returns floats, (R,). The fastest kind.
            ``predictions``: true and predicted label indices, int (N,) each, -1 for an answer that is no label; it
            returns a float, as most functions of ``sklearn.metrics`` do. It runs once for each bootstrap resample.
            ``probabilities``: true label indices, int (N,), and label probabilities, float (N, K), normalized so that
            each row sums to one over the labels; it returns a float. It runs once for each resample, too, and is not
            measured for free generation, which has no probabilities.
        higher_is_better: False for a loss or an error.
        hub_id: id of the metric on the Hugging Face hub, for the card's model-index; by default ``name``.
        hub_arguments: arguments that tell the hub's variants of ``hub_id`` apart, such as ``{"average": "macro"}``.
        sklearn_scorer: scikit-learn's scorer of the same name, with which a contestant of the arena chooses its
            settings. Only metrics that ``evaluate.metric`` accepts need one.
    """

    name: str
    title: str
    function: Callable[..., Any]
    needs: Literal["confusion", "predictions", "probabilities"] = "confusion"
    higher_is_better: bool = True
    hub_id: str = ""
    hub_arguments: Mapping[str, Any] = field(default_factory=dict)
    sklearn_scorer: str | None = None

    @property
    def heading(self) -> str:
        """The title, with the direction where lower is better."""
        return self.title if self.higher_is_better else f"{self.title} (lower is better)"


# Metrics by name, in the order of every table.
METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> None:
    """Add ``metric`` to the registry.

    Raises:
        ValueError: the name is taken, or is no identifier that JSON keys and tracker names can carry.
    """
    if metric.name in METRICS:
        raise ValueError(f"metric {metric.name}: already registered; choose another name or unregister it first")
    if not metric.name.isidentifier():
        raise ValueError(f"metric {metric.name!r}: not an identifier; use letters, digits and underscores")
    if metric.name in {key.name for key in fields(Metrics)}:
        raise ValueError(f"metric {metric.name}: is another key of the evaluation's JSON; choose another name")
    METRICS[metric.name] = metric


def unregister_metric(name: str) -> None:
    """Remove the metric called ``name`` from the registry."""
    del METRICS[name]


def macro_f1(matrices: Any) -> Any:
    """Return the F1 of each label averaged over the labels with rows, (R,), of confusion matrices (R, K, K + 1)."""
    size = matrices.shape[1]
    hits = matrices.diagonal(axis1=1, axis2=2)  # (R, K)
    support, answered = matrices.sum(axis=2), matrices[:, :, :size].sum(axis=1)
    return _mean_of_labels_with_rows(2 * hits / (support + answered).clip(min=1), support)


def macro_recall(matrices: Any) -> Any:
    """Return the recall of each label averaged over the labels with rows, (R,), of confusion matrices (R, K, K + 1).

    scikit-learn's ``balanced_accuracy_score`` leaves out labels without rows, too.
    """
    support = matrices.sum(axis=2)
    return _mean_of_labels_with_rows(matrices.diagonal(axis1=1, axis2=2) / support.clip(min=1), support)


def _mean_of_labels_with_rows(values: Any, support: Any) -> Any:
    """Average ``values`` (R, K) over the labels whose ``support`` (R, K) is above zero, (R,)."""
    has_rows = support > 0
    return (values * has_rows).sum(axis=1) / has_rows.sum(axis=1).clip(min=1)


def accuracy(matrices: Any) -> Any:
    """Return the share of rows answered with their true label, (R,), of confusion matrices (R, K, K + 1)."""
    return matrices.diagonal(axis1=1, axis2=2).sum(axis=1) / matrices.sum(axis=(1, 2))


# ``evaluate.metric`` accepts these three alone, which ``calibration.fit_calibrator`` can serve.
register_metric(Metric("macro_f1", "macro-F1", macro_f1, hub_id="f1", hub_arguments={"average": "macro"},
                       sklearn_scorer="f1_macro"))  # fmt: skip
register_metric(Metric("macro_recall", "macro recall", macro_recall, hub_id="recall",
                       hub_arguments={"average": "macro"}, sklearn_scorer="balanced_accuracy"))  # fmt: skip
register_metric(Metric("accuracy", "accuracy", accuracy, sklearn_scorer="accuracy"))
