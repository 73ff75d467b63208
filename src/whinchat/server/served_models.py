"""The classifiers of one server: adapters on a shared backbone, each with a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from whinchat.evaluation.calibrator import Calibrator
from whinchat.inference.cascade import load_cascade
from whinchat.inference.predictor import Predictions, Predictor, load_calibrator, saved_prompts
from whinchat.inference.question_predictor import AnyPredictor, QuestionPredictions, QuestionPredictor
from whinchat.models.adapters import adapter_layers, adapters_disabled, cast_lora_factors, load_trained_adapter
from whinchat.models.backbone import load_backbone, load_tokenizer
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache, keep_merged_weights
from whinchat.progress import Progress
from whinchat.prompts.template import PromptTemplate
from whinchat.server.ready_question import QuestionAnswers, ReadyQuestion, ask_questions, text_cost
from whinchat.server.startup import find_runs

BatchResult = Predictions | QuestionPredictions | QuestionAnswers


@dataclass(frozen=True)
class ServedModel:
    """One classifier of the server.

    Attributes:
        name: the name that requests give.
        path: the folder that the classifier was loaded from.
        predictor: the classifier in memory.
        adapter: name of its adapter in the shared model; None for merged weights.
    """

    name: str
    path: Path
    predictor: AnyPredictor
    adapter: str | None


@dataclass(frozen=True)
class ModelKey:
    """What a batch is computed with.

    Attributes:
        name: the name of a classifier.
        before: compute with its model as it was before fine-tuning.
        questions: ask these questions; empty to predict the labels of the classifier.
    """

    name: str
    before: bool = False
    questions: tuple[ReadyQuestion, ...] = ()

    @property
    def classifier(self) -> ModelKey:
        """The key without questions."""
        return replace(self, questions=())

    @property
    def text_cost(self) -> int:
        """As how many ordinary texts a text counts."""
        return text_cost(self.questions)


class ModelHost:
    """Predicts batches of texts with any of its classifiers. Only one thread at a time may call ``predict``.

    Attributes:
        models: the classifiers by name, in the order of the command line; the first is the default.
    """

    def __init__(self, model: Any, models: Mapping[str, ServedModel]) -> None:
        self.models = dict(models)
        self._model = model
        self._layers = adapter_layers(model)
        self._prefixes: dict[tuple[ModelKey, PromptTemplate], PrefixCache | None] = {}

    @classmethod
    def load(cls, runs: Mapping[str, Path]) -> ModelHost:
        """Load one backbone, and the adapter of each run.

        Raises:
            HubError: the hub has no such classifier, or cannot be reached.
            RunError: a folder holds no classifier, or the runs have different backbones.
            ModelError: the backbone cannot be loaded, or an adapter does not fit it or was trained on another.
        """
        paths, saved = find_runs(runs)
        first = next(iter(saved))
        backbone = load_backbone(saved[first].recipe.backbone)
        model: Any = backbone.model
        models: dict[str, ServedModel] = {}
        for name, classifier in saved.items():
            adapter = None
            if classifier.has_adapter:
                # PEFT allows no dots in the name of an adapter, so the classifier's own name cannot be used.
                adapter = f"adapter-{len(models)}"
                model = load_trained_adapter(backbone, classifier.folder, adapter, model)
            recipe, template = saved_prompts(classifier, load_tokenizer(backbone.source, classifier.folder))
            engine = Engine.build(model, backbone.plan, template)
            predictor: AnyPredictor
            if recipe.task.questions:
                predictor = QuestionPredictor.build(recipe, engine, classifier)
            else:
                predictor = Predictor(recipe, engine, load_calibrator(classifier), load_cascade(classifier))
            models[name] = ServedModel(name, paths[name], predictor, adapter)
        keep_merged_weights(model, backbone.plan)
        cast_lora_factors(model, backbone.plan.torch_dtype)
        return cls(model, models)

    def predict(self, key: ModelKey, texts: Sequence[str]) -> BatchResult:
        """Predict the labels of N texts, or answer the questions of the key about them.

        Predictions from before fine-tuning are not calibrated.
        """
        model = self.models[key.name]
        if model.adapter is not None and self._model.active_adapter != model.adapter:
            self._model.set_adapter(model.adapter)
        without_adapter = key.before and model.adapter is not None
        predictor, recipe = model.predictor, model.predictor.recipe
        with adapters_disabled(self._layers) if without_adapter else nullcontext():
            prefix_of = partial(self._prefix, key.classifier)
            if key.questions:
                return ask_questions(key.questions, texts, recipe.evaluate.per_device_eval_batch_size, prefix_of)
            if isinstance(predictor, QuestionPredictor):
                return predictor.predict(texts, bar=Progress(), prefixes=[*map(prefix_of, predictor.engines)])
            if not key.before:
                return predictor.predict(texts, bar=Progress(), prefix=prefix_of(predictor.engine))
            scores = predictor.score(texts, bar=Progress(), prefix=prefix_of(predictor.engine))
        # The calibration was fitted on scores after fine-tuning, so it says nothing about scores from before.
        return Predictions.from_scores(scores, Calibrator(recipe.task.labels))

    def _prefix(self, classifier: ModelKey, engine: Engine) -> PrefixCache | None:
        """Return the cache of the beginning that the prompts of ``engine`` share, with the adapter that is active."""
        place = classifier, engine.template
        if place not in self._prefixes:
            self._prefixes[place] = engine.read_prefix()
        return self._prefixes[place]
