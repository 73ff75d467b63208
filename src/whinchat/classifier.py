"""The scikit-learn estimator: ``Classifier().fit(texts, labels).predict(texts)``.

N: texts. K: labels.
"""

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
from whinchat.recipe.faults import explain_faults
from whinchat.recipe.loader import differences
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.storage.locate import find_classifier, model_files

SOURCE = "texts given to Classifier.fit"
_FILE = "classifier.json"
_VALIDATION = 0.1
# Parameters that the section ``train`` of a recipe has under the same names.
_TRAIN_KEYS = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "loss")
# Sections of a recipe that ``settings`` can change; the data come from ``fit``.
_SETTABLE = ("task", "backbone", "adapter", "train", "evaluate")


class InputError(DataError, ValueError):
    """Texts or labels that ``Classifier`` cannot take; also a ``ValueError``, which scikit-learn's users expect."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A small chat model as a text classifier, with the interface of scikit-learn.

    X is a sequence of N strings; y is a sequence of N labels, which are strings, numbers or booleans.

    Args:
        model: the chat model, as in ``backbone.model`` of a recipe: a hub id, a local folder, or ``package:NAME``.
        instruction: the system prompt; None for a prompt that names the labels.
        answers: the answer that stands for a label, for labels whose own name is not the answer.
        method: the method of fine-tuning, as in ``adapter.method``: lora, dora or rslora.
        learning_rate, num_train_epochs, per_device_train_batch_size, loss: as in the section ``train`` of a recipe.
        class_weight: None, "balanced", or a weight for each label.
        metric: the metric that the predicted labels serve: accuracy, macro_f1 or macro_recall.
        validation_fraction: share of the rows that calibrate the probabilities and the decision instead of training
            the model; 0 for no calibration.
        random_state: seed of the initial adapter weights, of the order of the rows, and of the choice of validation
            rows.
        settings: other keys of a recipe by their dotted names, such as ``{"adapter.r": 8}``.

    Attributes:
        classes_: the labels, (K,), in the order of the columns of ``predict_proba``.
        recipe_: the recipe that the classifier was trained with.

    Example:
        >>> from whinchat import Classifier
        >>> model = Classifier(num_train_epochs=5).fit(texts, labels)  # doctest: +SKIP
        >>> model.predict_proba(["what a lovely day"])  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0913  # scikit-learn takes every setting of an estimator as an argument
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
            InputError: X holds no texts, y has not one label for each text, or all labels are the same.
            RecipeError: a parameter has a value that a recipe does not allow.
            WhinchatError: the model cannot be loaded, or does not fit into memory.
        """
        # Only fitting needs the trainer, which takes seconds to import; predicting must not wait for it.
        from whinchat.training import prepare, trackers, train

        texts = _texts(X)
        labels = np.asarray(y)
        if labels.shape != (len(texts),):
            raise InputError(f"y: has the shape {labels.shape}; give one label for each of the {len(texts)} texts")
        try:
            classes, indices = np.unique(labels, return_inverse=True)
        except TypeError:
            fault = "y: holds labels of several types; give only strings, only numbers or only booleans"
            raise InputError(fault) from None
        if len(classes) < 2:
            raise InputError("y: holds 1 class, and a classifier needs 2 or more")
        recipe = self._recipe([str(label) for label in classes])
        corpus = self._corpus(texts, indices.tolist())
        with tempfile.TemporaryDirectory(prefix="whinchat-") as folder:
            adapter = Path(folder) / "adapter"
            backbone, template = prepare.prepare_training(recipe, corpus)
            recipe = recipe.model_copy(update={"task": template.task})
            run_trackers = trackers.Trackers(recipe.train.report_to)
            checkpoints = Path(folder) / "checkpoints"
            engine, _ = train.train(recipe, corpus, backbone, template, checkpoints, adapter, run_trackers)
            run_trackers.finish()
            predictor = Predictor(recipe, engine, Calibrator(recipe.task.labels))
            if corpus.validation is not None:
                scores = predictor.score(corpus.validation.texts).astype(np.float64)
                scored = ScoredSplit(corpus.validation, scores)
                calibrator = fit_with_threshold(scored, recipe.task.labels, recipe.evaluate)
                calibrator.save(adapter)
                predictor = replace(predictor, calibrator=calibrator)
            self._set_fitted(classes, recipe, adapter, predictor)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """Return the calibrated probabilities, (N, K), with columns in the order of ``classes_``."""
        return self._predictions(X).probabilities

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return the label of each text, (N,), chosen to serve ``metric``."""
        indices = self._predictions(X).label_indices
        labels: NDArray[Any] = self.classes_[indices]
        return labels

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer, recipe and calibration to ``folder``.

        ``from_pretrained`` reads the folder, and so does every command of whinchat that takes a run.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self._saved_files().items():
            (target / name).write_bytes(content)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Classifier trained with whinchat",
        token: str | None = None,
        base_model: str | None = None,
    ) -> str:
        """Upload the files of ``save_pretrained`` to a repository on the Hugging Face hub, and return its URL.

        The model card describes the classifier and its use, without evaluation results; ``whinchat push`` uploads a
        run with its evaluation.

        Args:
            repo_id: OWNER/NAME; created if there is no such repository.
            private: whether a new repository is private; None for the default of your account.
            commit_message: message of the commit.
            token: access token; by default the one of ``hf auth login`` or HF_TOKEN.
            base_model: hub id of the chat model; needed if ``model`` is a local folder.

        Raises:
            HubError: there is no token, the chat model is not on the hub, or the hub cannot be reached or refuses.
        """
        # The card belongs to the reports, which import matplotlib; predicting must not wait for it.
        from whinchat.hub.repository import repository_of_classifier

        files = self._saved_files()
        api = connect_to_hub(repo_id, token)
        package = repository_of_classifier(files, self.recipe_, repo_id, base_model)
        return upload_files(api, repo_id, package.files, commit_message, private)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Load a classifier from a folder of ``save_pretrained``, from a run, or from the hub.

        Args:
            source: the folder, or OWNER/NAME or OWNER/NAME@REVISION on the hub.

        Raises:
            HubError: the hub has no such classifier, or cannot be reached.
            RunError: the folder holds no classifier.
            ModelError: the backbone cannot be loaded, or a file is damaged.
        """
        path = fetch_classifier(source)
        saved = find_classifier(path)
        recipe, train, file = saved.recipe, saved.recipe.train, saved.folder / _FILE
        stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        classifier = cls(
            model=recipe.backbone.model,
            instruction=recipe.task.instruction,
            answers=recipe.task.answers or None,
            method=recipe.adapter.method,
            class_weight=None if train.class_weights == "none" else train.class_weights,
            metric=recipe.evaluate.metric,
            random_state=train.seed,
            validation_fraction=stored.get("validation_fraction", _VALIDATION),
            **{key: getattr(train, key) for key in _TRAIN_KEYS},
        )
        classifier.settings = classifier._other_settings(recipe)
        classes = np.array(stored.get("classes", recipe.task.labels))
        classifier._set_fitted(classes, recipe, saved.folder, Predictor.load(path))
        return classifier

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the classifier was fitted or loaded."""
        return hasattr(self, "_files")

    def __sklearn_tags__(self) -> Any:
        """Declare that X holds texts, not a table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model in memory, which is loaded again at the next prediction."""
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_predictor"}

    def _set_fitted(self, classes: NDArray[Any], recipe: Recipe, adapter: Path, predictor: Predictor) -> None:
        self.classes_ = classes
        self.recipe_ = recipe
        # The content of the files, so that a copy or a pickle of the classifier needs no folder.
        self._files = {file.name: file.read_bytes() for file in model_files(adapter)}
        self._predictor = predictor

    def _saved_files(self) -> dict[str, bytes]:
        """Return the content of the files of ``save_pretrained``, by their names."""
        check_is_fitted(self)
        stored = {"classes": self.classes_.tolist(), "validation_fraction": self.validation_fraction}
        return {**self._files, _FILE: f"{json.dumps(stored)}\n".encode()}

    def _other_settings(self, recipe: Recipe) -> dict[str, Any] | None:
        """Return the keys of ``recipe`` that no other parameter determines, as values of ``settings``."""
        values = recipe.model_dump()
        keys = [key.split(".") for key in differences(self._recipe(recipe.task.labels), recipe)]
        return {f"{key[0]}.{key[1]}": values[key[0]][key[1]] for key in keys if key[0] in _SETTABLE} or None

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
        words = ", ".join(f'"{answers.get(label, label)}"' for label in labels)
        instruction = f"You are a text classifier. Output exactly one of these labels and nothing else: {words}."
        weights: Any = self.class_weight
        weights = {str(label): w for label, w in weights.items()} if isinstance(weights, Mapping) else weights or "none"
        train = {key: getattr(self, key) for key in _TRAIN_KEYS}
        raw: dict[str, Any] = {
            "name": "classifier",
            "task": {
                "name": "text-classification",
                "labels": list(labels),
                "instruction": self.instruction or instruction,
                "answers": answers,
            },
            "data": {"source": SOURCE},
            "backbone": {"model": self.model},
            "adapter": {"method": self.method},
            "train": {**train, "seed": self.random_state, "class_weights": weights},
            "evaluate": {"metric": self.metric, "generate": False},
        }
        for key, value in (self.settings or {}).items():
            section, _, name = key.partition(".")
            if not name or not isinstance(raw.get(section), dict):
                raise RecipeError(
                    f"settings: {key!r} is no key of a recipe; give a dotted name such as adapter.r or train.optim"
                )
            raw[section][name] = value
        try:
            return Recipe.model_validate(raw)
        except ValidationError as faults:
            raise RecipeError("\n".join(explain_faults("Classifier", faults, Recipe, "classifier"))) from None

    def _corpus(self, texts: tuple[str, ...], labels: list[int]) -> Corpus:
        train, validation = Split("train", texts, tuple(labels)), None
        if not 0 <= self.validation_fraction < 1:
            raise RecipeError(f"validation_fraction: must lie from 0 to below 1; found {self.validation_fraction}")
        if validation_rows := round(self.validation_fraction * len(texts)):
            train, carved = carve_splits(train, {"validation": validation_rows}, self.random_state, SOURCE)
            validation = carved["validation"]
        return Corpus(SOURCE, None, train, validation, None, DataReport())


def _texts(X: Any) -> tuple[str, ...]:  # noqa: N803
    """Return X as N plain strings.

    Raises:
        InputError: X is a single string or a table, is empty, or holds something other than strings.
    """
    if isinstance(X, str):
        raise InputError("X: is one string; give a list of texts")
    if getattr(X, "ndim", 1) != 1:
        raise InputError(f"X: has {X.ndim} dimensions; give one text for each row, such as one column of a table")
    texts = tuple(X)
    if not texts:
        raise InputError("X: holds no texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"X: row {row} is a {type(text).__name__}, not a string; give only strings")
    # Strings of numpy become plain ones.
    return tuple(map(str, texts))
