"""scikit-learn's manners: ``Classifier().fit(texts, labels).predict(texts)``.

N: texts. K: labels.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from whinchat.data.dataset import Corpus, DataReport, Split
from whinchat.data.splits import carve_splits
from whinchat.errors import DataError, RecipeError
from whinchat.evaluation.calibration import Calibrator
from whinchat.evaluation.reliability import ScoredSplit, fit_with_threshold
from whinchat.hub.client import connect_to_hub, fetch_classifier, upload_files
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.recipe.loader import differences, explain_faults
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.storage.locate import find_classifier, model_files

SOURCE = "texts given to Classifier.fit"
_FILE = "classifier.json"
_VALIDATION = 0.1
# Sections of a recipe that ``settings`` reach into, without the data, which are given to ``fit``.
_SETTABLE = ("task", "backbone", "adapter", "train", "evaluate")


class InputError(DataError, ValueError):
    """A ``DataError`` that those who expect scikit-learn's errors catch, too."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A small chat model as a text classifier, in scikit-learn's manners.

    X is a sequence of N strings, y one of N labels: strings, numbers or booleans.

    Args:
        model: the chat model, as ``backbone.model`` of a recipe: a hub id, a local folder, or ``package:NAME``.
        instruction: its system prompt; None for one that names the labels.
        answers: the word it says for a label, where that is not the label itself.
        method: of ``adapter.method``: lora, dora, rslora.
        learning_rate, num_train_epochs, per_device_train_batch_size, loss: as in a recipe's ``train``.
        class_weight: None, "balanced", or a weight for each label.
        metric: what ``predict`` shall be best at: accuracy, macro_f1 or macro_recall.
        validation_fraction: share of the rows that calibrate probabilities and decision and are not trained on; 0
            for none, and scores stay as they are.
        random_state: seed of the order of rows, the first weights and the rows held out.
        settings: any other key of a recipe by its dotted name, such as ``{"adapter.r": 8}``.

    Attributes:
        classes_: the labels, (K,), in the order of ``predict_proba``'s columns.
        recipe_: the recipe it was trained by.

    Example:
        >>> from whinchat import Classifier
        >>> model = Classifier(num_train_epochs=5).fit(texts, labels)  # doctest: +SKIP
        >>> model.predict_proba(["what a lovely day"])  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0913  # an estimator's settings are its arguments
        self,
        *,
        model: str = "package:smollm2-135m-instruct",
        instruction: str | None = None,
        answers: Mapping[Any, str] | None = None,
        method: str = "lora",
        learning_rate: float = 1e-3,
        num_train_epochs: float = 3.0,
        per_device_train_batch_size: int = 16,
        loss: str = "choice",
        class_weight: str | Mapping[Any, float] | None = None,
        metric: MetricName = "accuracy",
        validation_fraction: float = _VALIDATION,
        random_state: int = 42,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.instruction = instruction
        self.answers = answers
        self.method = method
        self.learning_rate = learning_rate
        self.num_train_epochs = num_train_epochs
        self.per_device_train_batch_size = per_device_train_batch_size
        self.loss = loss
        self.class_weight = class_weight
        self.metric = metric
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> Self:  # noqa: N803
        """Train on N texts and their labels.

        Raises:
            InputError: X are no texts, y does not pair up with them, or there is one label alone.
            RecipeError: a parameter is none that a recipe takes.
            WhinchatError: the model cannot be had or does not fit.
        """
        # Only fitting needs the trainer, which takes seconds to import; predicting must not wait for it.
        from whinchat.training import prepare, trackers, train

        texts = _texts(X)
        given = np.asarray(y)
        if given.shape != (len(texts),):
            raise InputError(f"y: has the shape {given.shape}, {len(texts)} texts need ({len(texts)},): a label each")
        try:
            classes, rows = np.unique(given, return_inverse=True)
        except TypeError:
            raise InputError("y: holds labels of several kinds; give strings, numbers or booleans alone") from None
        if len(classes) < 2:
            raise InputError("y: holds 1 class, and a classifier needs 2 or more")
        recipe = self._recipe([str(one) for one in classes])
        corpus = self._corpus(texts, rows.tolist())
        with tempfile.TemporaryDirectory(prefix="whinchat-") as folder:
            adapter = Path(folder) / "adapter"
            backbone, template = prepare.prepare_training(recipe, corpus)
            told = trackers.Trackers(recipe.train.report_to)
            engine, _ = train.train(recipe, corpus, backbone, template, Path(folder) / "checkpoints", adapter, told)
            told.finish()
            predictor = Predictor(recipe, engine, Calibrator(recipe.task.labels))
            if corpus.validation is not None:
                scores = predictor.score(corpus.validation.texts).astype(np.float64)
                fitted = fit_with_threshold(ScoredSplit(corpus.validation, scores), recipe.task.labels, recipe.evaluate)
                fitted.save(adapter)
                predictor = replace(predictor, calibrator=fitted)
            self._take(classes, recipe, adapter, predictor)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities, (N, K), columns in the order of ``classes_``."""
        return self._predictions(X).probabilities

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """The label of each text, (N,): the one that serves ``metric``."""
        indices = self._predictions(X).label_indices
        labels: NDArray[Any] = self.classes_[indices]
        return labels

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer, recipe and calibration to ``folder``; ``from_pretrained`` reads them, and so does
        every command of whinchat that takes a run."""
        goal = Path(folder)
        goal.mkdir(parents=True, exist_ok=True)
        for name, content in self._stored().items():
            (goal / name).write_bytes(content)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Classifier trained with whinchat",
        token: str | None = None,
        base_model: str | None = None,
    ) -> str:
        """Put what ``save_pretrained`` writes into the repository ``repo_id`` of the Hugging Face hub; its address.

        Its card says what it is and how it is used, and holds no figures; ``whinchat push`` sends a run with all that
        was measured.

        Args:
            repo_id: OWNER/NAME; made where it is not there.
            private: whether to make it for your eyes only; None as your account has it.
            commit_message: of the one commit.
            token: the hub library's own by default (``hf auth login``, HF_TOKEN).
            base_model: hub id of the chat model, where ``model`` is a folder.

        Raises:
            HubError: no token, nobody else could have the chat model, or the hub refuses or is out of reach.
        """
        # The repository's card is a report, which takes matplotlib along; predicting must not wait for it.
        from whinchat.hub.repository import repository_of_classifier

        files = self._stored()
        api = connect_to_hub(repo_id, token)
        package = repository_of_classifier(files, self.recipe_, repo_id, base_model)
        return upload_files(api, repo_id, package.files, commit_message, private)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """What ``save_pretrained`` or a run left in a folder, or what the hub has as OWNER/NAME or OWNER/NAME@REVISION.

        Raises:
            HubError, RunError: nothing of the kind there. ModelError: its backbone cannot be had, or a file is damaged.
        """
        path = fetch_classifier(source)
        found = find_classifier(path)
        recipe = found.recipe
        stored = found.folder / _FILE
        kept = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
        train = recipe.train
        made = cls(
            model=recipe.backbone.model,
            instruction=recipe.task.instruction,
            answers=recipe.task.answers or None,
            method=recipe.adapter.method,
            learning_rate=train.learning_rate,
            num_train_epochs=train.num_train_epochs,
            per_device_train_batch_size=train.per_device_train_batch_size,
            loss=train.loss,
            class_weight=None if train.class_weights == "none" else train.class_weights,
            metric=recipe.evaluate.metric,
            random_state=train.seed,
            validation_fraction=kept.get("validation_fraction", _VALIDATION),
        )
        made.settings = made._further_settings(recipe)
        made._take(np.array(kept.get("classes", recipe.task.labels)), recipe, found.folder, Predictor.load(path))
        return made

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is an adapter."""
        return hasattr(self, "_files")

    def __sklearn_tags__(self) -> Any:
        """Texts, and not a table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Without the model in memory, which is loaded again where it is needed."""
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_predictor"}

    def _take(self, classes: NDArray[Any], recipe: Recipe, adapter: Path, predictor: Predictor) -> None:
        self.classes_ = classes
        self.recipe_ = recipe
        # The files themselves, so that a copy or a pickle of the classifier needs no folder.
        self._files = {one.name: one.read_bytes() for one in model_files(adapter)}
        self._predictor = predictor

    def _stored(self) -> dict[str, bytes]:
        """The files of ``save_pretrained``, by their names."""
        check_is_fitted(self)
        kept = {"classes": self.classes_.tolist(), "validation_fraction": self.validation_fraction}
        return {**self._files, _FILE: f"{json.dumps(kept)}\n".encode()}

    def _further_settings(self, recipe: Recipe) -> dict[str, Any] | None:
        """What in ``recipe`` follows from no other parameter, for ``settings``."""
        values = recipe.model_dump()
        keys = [key.split(".") for key in differences(self._recipe(recipe.task.labels), recipe)]
        found = {f"{key[0]}.{key[1]}": values[key[0]][key[1]] for key in keys if key[0] in _SETTABLE}
        return found or None

    def _predictions(self, X: Sequence[str]) -> Predictions:  # noqa: N803
        check_is_fitted(self)
        texts = _texts(X)
        if not hasattr(self, "_predictor"):
            with tempfile.TemporaryDirectory(prefix="whinchat-") as folder:
                self.save_pretrained(folder)
                self._predictor = Predictor.load(Path(folder))
        return self._predictor.predict(texts)

    def _recipe(self, labels: Sequence[str]) -> Recipe:
        answers = {str(label): word for label, word in (self.answers or {}).items()}
        named = ", ".join(f'"{answers.get(label, label)}"' for label in labels)
        asked = f"You are a text classifier. Output exactly one of these labels and nothing else: {named}."
        weights = self.class_weight
        raw: dict[str, Any] = {
            "name": "classifier",
            "task": {
                "name": "text-classification",
                "labels": list(labels),
                "instruction": self.instruction or asked,
                "answers": answers,
            },
            "data": {"source": SOURCE},
            "backbone": {"model": self.model},
            "adapter": {"method": self.method},
            "train": {
                "loss": self.loss,
                "learning_rate": self.learning_rate,
                "num_train_epochs": self.num_train_epochs,
                "per_device_train_batch_size": self.per_device_train_batch_size,
                "seed": self.random_state,
                "class_weights": {str(label): weight for label, weight in weights.items()}
                if isinstance(weights, Mapping)
                else weights or "none",
            },
            "evaluate": {"metric": self.metric, "generate": False},
        }
        for key, value in (self.settings or {}).items():
            section, _, name = key.partition(".")
            if not name or not isinstance(raw.get(section), dict):
                raise RecipeError(f"settings: {key!r} is no key of a recipe; give it as in adapter.r or train.optim")
            raw[section][name] = value
        try:
            return Recipe.model_validate(raw)
        except ValidationError as faults:
            raise RecipeError(explain_faults("Classifier", faults, Recipe, "classifier")) from None

    def _corpus(self, texts: tuple[str, ...], labels: list[int]) -> Corpus:
        train, validation = Split("train", texts, tuple(labels)), None
        if not 0 <= self.validation_fraction < 1:
            raise RecipeError(f"validation_fraction: must lie from 0 to below 1; found {self.validation_fraction}")
        if held := round(self.validation_fraction * len(texts)):
            train, carved = carve_splits(train, {"validation": held}, self.random_state, SOURCE)
            validation = carved["validation"]
        return Corpus(SOURCE, None, train, validation, None, DataReport())


def _texts(X: Any) -> tuple[str, ...]:  # noqa: N803
    """N strings.

    Raises:
        InputError: one string, a table, or something that is no text.
    """
    if isinstance(X, str):
        raise InputError("X: is one string; give a list of texts")
    if getattr(X, "ndim", 1) != 1:
        raise InputError(f"X: has {X.ndim} dimensions; give one text for each row, such as one column of a table")
    texts = tuple(X)
    if not texts:
        raise InputError("X: holds no texts")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"X: row {at} is a {type(text).__name__}, not a string; give texts")
    # numpy's own strings are no plain ones.
    return tuple(map(str, texts))
