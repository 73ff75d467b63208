"""The scikit-learn estimator: ``Classifier().fit(texts, labels).predict(texts)``.

N: texts. K: labels.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from whinchat.data.dataset import Corpus, DataReport, Split
from whinchat.data.estimator_input import ClassLabels, InputError, class_labels, plain_texts, row_weights
from whinchat.data.splits import carve_splits
from whinchat.errors import RecipeError
from whinchat.evaluation.calibration import Calibrator
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.reliability import ScoredSplit, fit_with_threshold
from whinchat.hub.client import connect_to_hub, fetch_classifier, upload_files
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.output_files import sweep_drafts, temporary_folder, writing
from whinchat.recipe.faults import explain_faults
from whinchat.recipe.loader import differences, without_home
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.storage.folder_update import update_folder
from whinchat.storage.locate import find_classifier, model_files
from whinchat.storage.locking import lock_folder

SOURCE = "texts given to Classifier.fit"
_FILE = "classifier.json"
_VALIDATION = 0.1
# Parameters that the section ``train`` of a recipe has under the same names.
_TRAIN_KEYS = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "loss")
# Sections of a recipe that ``settings`` can change; the data come from ``fit``.
_SETTABLE = ("task", "backbone", "adapter", "train", "evaluate")


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A small chat model as a text classifier, with the interface of scikit-learn.

    X is a sequence of N strings; y is a sequence of N labels, which are strings, whole numbers or booleans. The model
    answers the number 1.0 by "1".

    Args:
        model: the chat model, as in ``backbone.model`` of a recipe: a hub id, a local folder, or ``package:NAME``.
        instruction: the system prompt; None for a prompt that names the labels.
        answers: the answer that stands for a label, for labels whose own name is not the answer.
        method: the method of fine-tuning, as in ``adapter.method``: lora, dora or rslora.
        learning_rate, num_train_epochs, per_device_train_batch_size, loss: as in the section ``train`` of a recipe.
        class_weight: None, "balanced", or a mapping from labels to weights; a label that it leaves out weighs 1.
        metric: the metric that the predicted labels serve: accuracy, macro_f1 or macro_recall.
        validation_fraction: share of the rows that calibrate the probabilities instead of training the model; 0
            for no calibration.
        random_state: seed of the initial adapter weights, of the order of the rows, and of the choice of validation
            rows; None or a ``RandomState`` draws a new one for each ``fit``.
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
        model: str | os.PathLike[str] = "package:smollm2-135m-instruct",
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
        random_state: int | np.random.RandomState | None = 42,
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

    def fit(self, X: Sequence[str], y: Sequence[Any], sample_weight: Sequence[float] | None = None) -> Self:  # noqa: N803
        """Train on N texts and their labels.

        Args:
            X: N texts.
            y: N labels.
            sample_weight: weight of each text in the training loss, N numbers of zero or more; None for equal weights.
                A text of weight 2 counts as the same text given twice, and one of weight 0 is left out. The texts that
                calibrate the probabilities count alike.

        Raises:
            InputError: X holds no texts, y has not one label for each text, all labels are the same, or a row has no
                text, label or weight that can be used.
            RecipeError: a parameter has a value that a recipe does not allow.
            WhinchatError: the model cannot be loaded, or does not fit into memory.
        """
        # Only fitting needs the trainer, which takes seconds to import; predicting must not wait for it.
        from whinchat.training import prepare, trackers, train

        texts = plain_texts(X)
        labels = class_labels(y, len(texts))
        weights = row_weights(sample_weight, len(texts))
        seed = self._seed()
        recipe = without_home(self._recipe(labels.names, labels.classes.tolist(), seed))
        corpus = self._corpus(Split("train", texts, labels.indices, weights), labels, seed)
        with temporary_folder() as folder:
            adapter = folder / "adapter"
            backbone, template = prepare.prepare_training(recipe, corpus)
            recipe = recipe.model_copy(update={"task": template.task})
            run_trackers = trackers.Trackers(recipe.train.report_to)
            checkpoints = folder / "checkpoints"
            engine, _ = train.train(recipe, corpus, backbone, template, checkpoints, adapter, run_trackers)
            run_trackers.finish()
            predictor = Predictor(recipe, engine, Calibrator(recipe.task.labels))
            if corpus.validation is not None:
                scores = predictor.score(corpus.validation.texts).astype(np.float64)
                scored = ScoredSplit(corpus.validation, scores)
                calibrator = fit_with_threshold(scored, recipe.task.labels, recipe.evaluate)
                calibrator.save(adapter)
                predictor = replace(predictor, calibrator=calibrator)
            self._set_fitted(labels.classes, recipe, adapter, predictor)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """Return the calibrated probabilities, (N, K), with columns in the order of ``classes_``."""
        return self._predictions(X).probabilities

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return the label of each text, (N,): the one with the highest probability."""
        indices = self._predictions(X).label_indices
        labels: NDArray[Any] = self.classes_[indices]
        return labels

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer, recipe and calibration to ``folder``.

        ``from_pretrained`` reads the folder, and so does every command of whinchat that takes a run. An earlier
        classifier there is replaced as a whole.

        Raises:
            OutputError: the folder cannot be written.
            RunError: another process writes into the folder.
        """
        target = Path(folder)
        files = self._saved_files()
        with lock_folder(target):
            sweep_drafts(target)
            with update_folder(target) as changed, writing(target):
                for name, content in files.items():
                    (changed / name).write_bytes(content)
                if CALIBRATION_FILE not in files:
                    (target / CALIBRATION_FILE).unlink(missing_ok=True)

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
        own = self._recipe(recipe.task.labels, recipe.task.labels, recipe.train.seed)
        keys = [key.split(".") for key in differences(own, recipe)]
        return {f"{key[0]}.{key[1]}": values[key[0]][key[1]] for key in keys if key[0] in _SETTABLE} or None

    def _predictions(self, X: Sequence[str]) -> Predictions:  # noqa: N803
        check_is_fitted(self)
        texts = plain_texts(X)
        if not hasattr(self, "_predictor"):
            with temporary_folder() as folder:
                self.save_pretrained(folder)
                self._predictor = Predictor.load(folder)
        return self._predictor.predict(texts)

    def _seed(self) -> int:
        if isinstance(self.random_state, np.random.RandomState) or self.random_state is None:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        return self.random_state  # the recipe checks what it is

    def _recipe(self, labels: Sequence[str], classes: Sequence[Any], seed: int) -> Recipe:
        """Return the recipe of a training.

        Args:
            labels: the K labels as text.
            classes: the K labels as the keys of ``answers`` and ``class_weight`` may have them.
            seed: ``train.seed``.
        """
        # The numbers 1 and 1.0 and True are the same key.
        name_of = {**dict(zip(classes, labels, strict=True)), **{label: label for label in labels}}
        answers = {name_of.get(label, str(label)): word for label, word in (self.answers or {}).items()}
        words = ", ".join(f'"{answers.get(label, label)}"' for label in labels)
        instruction = f"You are a text classifier. Output exactly one of these labels and nothing else: {words}."
        weights: Any = "none" if self.class_weight is None else self.class_weight
        if isinstance(weights, Mapping):
            given = {name_of.get(label, str(label)): weight for label, weight in weights.items()}
            weights = dict.fromkeys(labels, 1.0) | given
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
            "backbone": {"model": os.fspath(self.model) if isinstance(self.model, os.PathLike) else self.model},
            "adapter": {"method": self.method},
            "train": {**train, "seed": seed, "class_weights": weights},
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

    def _corpus(self, rows: Split, labels: ClassLabels, seed: int) -> Corpus:
        """Return the rows to train on and, for ``validation_fraction``, rows to calibrate on.

        Raises:
            InputError: a label would have no row to train on.
            RecipeError: ``validation_fraction`` is not a share that leaves rows to train on.
        """
        fraction: Any = self.validation_fraction
        if isinstance(fraction, bool | str | None) or not 0 <= fraction < 1:
            raise RecipeError(f"validation_fraction: must lie from 0 to below 1; found {fraction!r}")
        if rows.weights:
            rows = rows.take([row for row, weight in enumerate(rows.weights) if weight > 0])
        train, validation = rows, None
        # A label with a single row is trained on, not held out.
        count = Counter(rows.labels)
        alone = [row for row, label in enumerate(rows.labels) if count[label] == 1]
        if validation_rows := round(fraction * len(rows)):
            common = rows.take([row for row, label in enumerate(rows.labels) if count[label] > 1])
            if validation_rows >= len(common):
                raise RecipeError(
                    f"validation_fraction: {fraction} of {len(rows)} rows leaves too few to train on; lower it"
                )
            train, carved = carve_splits(common, {"validation": validation_rows}, seed, SOURCE)
            train, validation = _joined(train, rows.take(alone)), carved["validation"]
        if lost := sorted(set(range(len(labels.names))) - set(train.labels)):
            raise InputError(
                f"y: no row of {labels.names[lost[0]]!r} is left to train on, since rows of weight 0 are left out; "
                "add rows of it, or raise their weights"
            )
        return Corpus(SOURCE, None, train, validation, None, DataReport())


def _joined(first: Split, second: Split) -> Split:
    return Split(first.name, first.texts + second.texts, first.labels + second.labels, first.weights + second.weights)
