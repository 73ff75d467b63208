"""Titles of card, report and figures: sentences built from the stored record of a run."""

import math
import re

from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry
from whinchat.evaluation.results import Metrics, ReliabilityReport
from whinchat.hub.client import HUB_ID
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.report.formatting import format_count, format_number
from whinchat.storage.run_record import Manifest, RunRecord, TrainedRecord
from whinchat.wording import counted

_COMMIT = re.compile(r"[0-9a-f]{40}")
TITLE_DIGITS = 2


def hub_model(manifest: Manifest) -> str | None:
    """Return the hub id of the base model, or None if the model did not come from the hub.

    A folder called ``models/tiny`` looks like a hub id, so a name counts as one only with a hub commit beside it.
    """
    source = manifest.model_source
    if source.startswith(PACKAGE_PREFIX):
        return catalog_entry(source).hub_id
    is_hub_id = HUB_ID.fullmatch(source) and _COMMIT.fullmatch(manifest.model_commit or "")
    return source if is_hub_id else None


def base_depth(recipe: Recipe) -> str:
    """Return what to write behind the name of the base model where ``recipe`` uses its first layers only."""
    layers = recipe.backbone.layers
    return "" if layers is None else f", cut to its first {'layer' if layers == 1 else f'{layers} layers'}"


def run_title(record: TrainedRecord, base: str | None = None) -> str:
    """Return the title of card and report, such as "Llama-3.2-1B with LoRA classifies texts by tweet sentiment".

    Args:
        record: the run.
        base: hub id of the base model; None takes the one that the record names.
    """
    source = base or hub_model(record.manifest) or record.manifest.model_source
    return model_title(record.recipe, record.manifest.load_in, source)


def model_title(recipe: Recipe, load_in: str, base: str) -> str:
    """Return the title of a model that ``recipe`` trained on the base model ``base``, held as ``load_in``."""
    name = base.rstrip("/").rpartition("/")[2].removeprefix(PACKAGE_PREFIX)
    task = re.sub(r"[-_]+", " ", recipe.task.name)
    questions = len(recipe.task.questions)
    asked = "a question" if questions == 1 else f"{questions} questions"
    does = f"answers {asked} about texts ({task})" if questions else f"classifies texts by {task}"
    return f"{name} with {method_name(recipe.adapter, load_in)} {does}"


def macro_f1_title(record: RunRecord) -> str:
    """Return how macro-F1 changed, such as "Macro-F1 rose from 0.21 to 0.79 on 800 test texts".

    After training, the answers are those of ``whinchat predict``.
    """
    return metric_title(record, record.before.score, record.shipped, "macro_f1", "Macro-F1")


def accuracy_title(record: RunRecord, mode_name: str, before: Metrics | None, after: Metrics | None) -> str:
    """Return how the accuracy of one mode changed, such as "Label scoring: accuracy fell from 0.70 to 0.65 on ..."."""
    return f"{mode_name.capitalize()}: {metric_title(record, before, after, 'accuracy', 'accuracy')}"


def metric_title(record: RunRecord, before: Metrics | None, after: Metrics | None, metric: str, name: str) -> str:
    """Return a sentence on how ``metric`` changed, or on its one value if it was measured once."""
    if before is None or after is None:
        metrics = before or after
        if metrics is None:
            return f"{name} on the {record.after.split} split"
        when = "before" if after is None else "after"
        return (
            f"{name} {when} training is {format_number(metrics.values[metric], TITLE_DIGITS)} {_texts(record, metrics)}"
        )
    if record.before.split_fingerprint != record.after.split_fingerprint:
        return f"{name} before and after training, on different texts"
    return f"{name} {change(before.values[metric], after.values[metric])} {_texts(record, after)}"


def reliability_title(record: RunRecord, errors: list[float]) -> str:
    """Return how the calibration error changed.

    Args:
        record: the run.
        errors: expected calibration error of each curve, in the order of the curves.
    """
    if len(errors) < 2:
        return f"Confidence and accuracy {_texts(record, record.after.score)}"
    return f"Calibration error {change(errors[0], errors[-1])} {_texts(record, record.after.score)}"


def coverage_title(reliability: ReliabilityReport) -> str:
    """Return what answering only the most confident half of the texts does to the accuracy."""
    half = [point for point in reliability.coverage if abs(point.coverage - 0.5) < 0.05]
    if not half:
        return "Accuracy if only the most confident predictions are kept"
    accuracy = min(half, key=lambda point: abs(point.coverage - 0.5)).accuracy
    return (
        f"Accuracy is {format_number(accuracy, TITLE_DIGITS)} on the most confident half of the texts, "
        f"{format_number(reliability.calibrated.accuracy, TITLE_DIGITS)} on all"
    )


def training_title(record: TrainedRecord) -> str:
    """Return how the logged training loss changed."""
    losses = [point.loss for point in record.history if point.loss is not None and math.isfinite(point.loss)]
    if len(losses) < 2:
        return "Training loss"
    return f"Training loss {change(losses[0], losses[-1])} in {format_count(record.manifest.train_steps)} steps"


def change(before: float, after: float) -> str:
    """Return "rose from 0.21 to 0.79", "fell from ... to ..." or "stayed at ...", judged by the rounded numbers."""
    old, new = format_number(before, TITLE_DIGITS), format_number(after, TITLE_DIGITS)
    if old == new:
        return f"stayed at {new}"
    return f"{'rose' if after > before else 'fell'} from {old} to {new}"


def _texts(record: RunRecord, metrics: Metrics) -> str:
    """Return which texts ``metrics`` were measured on, such as "on 800 validation texts"."""
    return f"on {counted(metrics.n, f'{record.after.split} text')}"
