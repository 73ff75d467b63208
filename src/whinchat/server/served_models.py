"""Classifiers in memory that share one backbone, told apart by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whinchat.errors import RunError
from whinchat.evaluation.calibration import Calibrator
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.models.adapters import adapters_disabled, add_adapter, cast_lora_factors, load_adapter, lora_layers
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import SilentProgress
from whinchat.storage.locate import SavedClassifier, find_classifier


@dataclass(frozen=True)
class ServedModel:
    """One classifier: what it answers with, where it came from, and its adapter's name in the shared model."""

    name: str
    path: Path
    predictor: Predictor
    adapter: str | None


@dataclass(frozen=True)
class ModelKey:
    """Which classifier is asked; ``before`` asks the model as it was before fine-tuning."""

    name: str
    before: bool = False


class ModelHost:
    """Answers one batch of texts after the other; not for several threads at once.

    Attributes:
        hosted: the classifiers by name, in the order they were given; the first is the default.
    """

    def __init__(self, model: Any, hosted: Mapping[str, ServedModel]) -> None:
        self.hosted = dict(hosted)
        self._model = model
        self._layers = lora_layers(model)
        self._prefixes: dict[ModelKey, PrefixCache | None] = {}

    @classmethod
    def load(cls, runs: Mapping[str, Path]) -> ModelHost:
        """One backbone, and the adapter of each run on it.

        Raises:
            HubError, RunError: nothing of the kind there, or the runs are of different backbones.
            ModelError: the backbone cannot be had, or an adapter does not fit it.
        """
        runs = {name: fetch_classifier(path) for name, path in runs.items()}
        found = {name: find_classifier(path) for name, path in runs.items()}
        first = next(iter(found))
        for name, one in found.items():
            if _base(one) != _base(found[first]):
                raise RunError(
                    f"{runs[name]}: its backbone is not that of {runs[first]}; one server holds one backbone, so start "
                    "another for it"
                )
        backbone = load_backbone(found[first].recipe.backbone)
        model: Any = backbone.model
        hosted: dict[str, ServedModel] = {}
        for name, one in found.items():
            adapter = None
            if one.has_adapter:
                # PEFT takes no dots in a name.
                adapter = f"adapter-{len(hosted)}"
                add = add_adapter if hosted else load_adapter
                model = add(model, one.folder, adapter)
            engine = Engine.build(model, backbone.plan, backbone.tokenizer.template(one.recipe))
            calibrator = Calibrator.load(one.folder, one.recipe.task.labels)
            hosted[name] = ServedModel(name, runs[name], Predictor(one.recipe, engine, calibrator), adapter)
        cast_lora_factors(model, backbone.plan.torch_dtype)
        return cls(model, hosted)

    def answer(self, question: ModelKey, texts: Sequence[str]) -> Predictions:
        """Answers to N texts; those from before fine-tuning are plain scores, for nothing was calibrated then."""
        one = self.hosted[question.name]
        if one.adapter is not None and self._model.active_adapter != one.adapter:
            self._model.set_adapter(one.adapter)
        plain = question.before and one.adapter is not None
        with adapters_disabled(self._layers) if plain else nullcontext():
            if question not in self._prefixes:
                self._prefixes[question] = one.predictor.engine.read_prefix()
            scores = one.predictor.score(texts, bar=SilentProgress(), prefix=self._prefixes[question])
        # The calibration was fitted on scores after fine-tuning, so it says nothing about scores from before.
        calibrator = Calibrator(one.predictor.recipe.task.labels) if question.before else one.predictor.calibrator
        return Predictions.from_scores(scores, calibrator)


def _base(found: SavedClassifier) -> Any:
    """What two classifiers must have in common to share weights; where a prompt is cut is each one's own."""
    return found.recipe.backbone.model_copy(update={"max_prompt_tokens": 0}), found.has_adapter or found.folder
