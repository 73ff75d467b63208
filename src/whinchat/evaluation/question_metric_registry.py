"""The metrics of each type of question: their names, titles, directions and ids on the Hugging Face hub.

Files, tables, figures, card and model-index take them from here. The module imports no heavy library; how the metrics
are computed stands in ``matrix_metrics`` and ``row_resampling``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whinchat.recipe.question import QuestionType


@dataclass(frozen=True)
class QuestionMetric:
    """One metric of a type of question.

    Attributes:
        name: key in JSON files.
        title: name in tables and sentences.
        short_title: name in figures and narrow columns; by default ``title``.
        higher_is_better: False for an error.
        hub_id: id of the metric on the Hugging Face hub, for the card's model-index; by default ``name``.
        hub_arguments: arguments that tell variants of ``hub_id`` apart, such as ``{"average": "macro"}``.
    """

    name: str
    title: str
    short_title: str = ""
    higher_is_better: bool = True
    hub_id: str = ""
    hub_arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The short title."""
        return self.short_title or self.title

    @property
    def heading(self) -> str:
        """The title, with the direction where lower is better."""
        return self.title if self.higher_is_better else f"{self.title} (lower is better)"


def _by_name(*metrics: QuestionMetric) -> dict[str, QuestionMetric]:
    return {metric.name: metric for metric in metrics}


_ACCURACY = QuestionMetric("accuracy", "accuracy")
_MACRO_F1 = QuestionMetric("macro_f1", "macro-F1", hub_id="f1", hub_arguments={"average": "macro"})

# Metrics of each type by name, in the order of every table; the first of each type is its headline.
QUESTION_METRICS: Mapping[QuestionType, Mapping[str, QuestionMetric]] = {
    "choice": _by_name(
        _MACRO_F1,
        QuestionMetric("macro_recall", "macro recall", hub_id="recall", hub_arguments={"average": "macro"}),
        _ACCURACY,
    ),
    "yes_no": _by_name(
        QuestionMetric("f1", "F1 of yes", hub_arguments={"average": "binary", "pos_label": "yes"}),
        QuestionMetric("auc_pr", "AUC-PR (average precision)", "AUC-PR", hub_id="average_precision"),
        QuestionMetric("auc_roc", "AUC-ROC", hub_id="roc_auc"),
        _ACCURACY,
    ),
    "score": _by_name(
        QuestionMetric("qwk", "quadratic weighted kappa (QWK)", "QWK", hub_id="cohen_kappa",
                       hub_arguments={"weights": "quadratic"}),
        QuestionMetric("mae", "mean error in levels of the most probable level", "MAE", higher_is_better=False,
                       hub_arguments={"answer": "most probable level"}),
        QuestionMetric("mae_expected", "mean error in levels of the expected level", "MAE of expected level",
                       higher_is_better=False, hub_id="mae", hub_arguments={"answer": "expected level"}),
        _ACCURACY,
        QuestionMetric("within_one", "accuracy within one level", "within one level", hub_id="accuracy",
                       hub_arguments={"tolerance": "one level"}),
        _MACRO_F1,
    ),
    "multi": _by_name(
        QuestionMetric("macro_f1", "macro-F1 over options", "macro-F1", hub_id="f1",
                       hub_arguments={"average": "macro"}),
        QuestionMetric("micro_f1", "micro-F1", hub_id="f1", hub_arguments={"average": "micro"}),
        QuestionMetric("subset_accuracy", "subset accuracy", hub_id="accuracy",
                       hub_arguments={"averaged_over": "sets of options"}),
    ),
}  # fmt: skip


def headline(kind: QuestionType) -> QuestionMetric:
    """Return the metric by which questions of a type are compared and tested."""
    return next(iter(QUESTION_METRICS[kind].values()))
