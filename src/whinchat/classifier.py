"""The scikit-learn estimator: ``Classifier().fit(texts, labels).predict(texts)``.

N: texts. K: labels.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from whinchat.data.dataset import Split
from whinchat.data.estimator_input import InputError, class_labels, hold_out, known_labels, plain_texts, row_weights
from whinchat.data.learned_texts import learned_after, read_learned
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.reliability import ScoredSplit, cross_fitted, fit_with_threshold
from whinchat.evaluation.results import Metrics
from whinchat.evaluation.scoring import label_probabilities
from whinchat.hub.client import connect_to_hub, fetch_classifier, upload_files
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.models.adapters import adapter_layers, adapters_disabled
from whinchat.models.forward import Engine
from whinchat.output_files import temporary_folder
from whinchat.progress import shown_progress
from whinchat.recipe.estimator_recipe import SOURCE, TRAIN_KEYS, estimator_recipe
from whinchat.recipe.loader import differences, without_home
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.storage.locate import find_classifier
from whinchat.text_estimator import TextEstimator
from whinchat.wording import counted

if TYPE_CHECKING:
    from whinchat.report.classifier_report import ClassifierReport

_FILE = "classifier.json"
_VALIDATION = 0.1
# Sections of a recipe that ``settings`` can change; the data come from ``fit``.
_SETTABLE = ("task", "backbone", "adapter", "train", "evaluate")


@dataclass(frozen=True)
class _HeldOut:
    """Metrics on the rows that ``fit`` held out, before and after training."""

    before: Metrics
    after: Metrics


class Classifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]  # scikit-learn is not typed
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
        settings: other keys of a recipe by their dotted names, such as ``{"adapter.r": 8}``. For LoRA on 4-bit weights
            (QLoRA): ``{"backbone.load_in": "nf4"}``.
        verbose: 0 shows nothing; 1 shows the progress of ``fit`` and of answering on standard error.

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
        verbose: int = 0,
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
        self.verbose = verbose

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
        recipe = without_home(
            estimator_recipe(self.get_params(deep=False), labels.names, labels.classes.tolist(), seed)
        )
        corpus = hold_out(
            Split("train", texts, labels.indices, weights), labels, self.validation_fraction, seed, SOURCE
        )
        with shown_progress(self.verbose > 0), temporary_folder() as folder:
            adapter = folder / "adapter"
            prepare.warn_of_learned(recipe, corpus)
            learned = learned_after(recipe.backbone.model, corpus)
            backbone, template = prepare.prepare_training(recipe, corpus)
            recipe = recipe.model_copy(update={"task": template.task})
            untrained = Predictor(
                recipe, Engine.build(backbone.model, backbone.plan, template), Calibrator(recipe.task.labels)
            )
            validation = corpus.validation
            before = None if validation is None else untrained.score(validation.texts)
            run_trackers = trackers.Trackers(recipe.train.report_to)
            checkpoints = folder / "checkpoints"
            engine, _ = train.train(recipe, corpus, backbone, template, checkpoints, adapter, run_trackers)
            run_trackers.finish()
            predictor, held_out = replace(untrained, engine=engine), None
            if validation is not None and before is not None:
                scored = ScoredSplit(validation, predictor.score(validation.texts).astype(np.float64))
                calibrator = fit_with_threshold(scored, recipe.task.labels, recipe.evaluate)
                calibrator.save(adapter)
                predictor = replace(predictor, calibrator=calibrator)
                # Each row by a calibrator that was fitted without it, so that the report is not flattered.
                after = cross_fitted(scored, recipe.task.labels, recipe.evaluate).probabilities
                probabilities = (label_probabilities(before), after)
                held_out = _HeldOut(*(self._metrics(recipe, validation.labels, shares) for shares in probabilities))
            self._keep_files(adapter, learned)
            self._set_fitted(labels.classes, recipe, predictor, held_out)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """Return the calibrated probabilities, (N, K), with columns in the order of ``classes_``."""
        return self._predictions(X).probabilities

    def predict(self, X: Sequence[str], *, abstain: bool = False) -> NDArray[Any]:  # noqa: N803
        """Return the label of each text, (N,): the one with the highest probability.

        Args:
            X: N texts.
            abstain: whether to return None, in an array of objects, for texts of which the classifier is unsure: their
                probability lies below the threshold for ``evaluate.wanted_accuracy``.

        Raises:
            InputError: X holds no texts, or ``abstain`` is true and the classifier has no threshold.
        """
        found = self._predictions(X)
        labels: NDArray[Any] = self.classes_[found.label_indices]
        if not abstain:
            return labels
        if self._predictor.calibrator.threshold is None:
            raise InputError(
                "abstain: this classifier has no threshold below which it is unsure: either none was asked for, as "
                'settings={"evaluate.wanted_accuracy": 0.9} does, or no answers on held-out texts reach that accuracy'
            )
        answers = labels.astype(object)
        answers[found.unsure] = None
        return answers

    def report(self, X: Sequence[str] | None = None, y: Sequence[Any] | None = None) -> "ClassifierReport":  # noqa: N803
        """Measure the classifier, and the same model before training, on texts that it was not trained on.

        Args:
            X: N texts; None for the texts that ``fit`` held out.
            y: their N labels.

        Returns:
            A record to print; a notebook shows it with confusion matrices.

        Raises:
            InputError: X or y do not fit together or hold labels that are not in ``classes_``, or neither is given and
                no texts were held out.
        """
        # Reports import matplotlib; predicting must not wait for it.
        from whinchat.report.classifier_report import ClassifierReport, held_out_texts

        check_is_fitted(self)
        if X is None and y is None:
            if self._held_out is None:
                raise InputError("report: fit held no texts out, or this classifier was loaded; give texts and labels")
            held_out = self._held_out
            return ClassifierReport(held_out_texts(held_out.after.n), held_out.after, held_out.before)
        texts = plain_texts(X)
        expected = known_labels(y, len(texts), self.classes_)
        after = self._metrics(self.recipe_, expected, self._predictions(texts).probabilities)
        before = None
        if layers := adapter_layers(self._predictor.engine.model):
            with adapters_disabled(layers), shown_progress(self.verbose > 0):
                before = self._metrics(self.recipe_, expected, label_probabilities(self._predictor.score(texts)))
        return ClassifierReport(counted(len(texts), "text"), after, before)

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
            DataError: the file with the hashes of its training texts is damaged.
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
            **{key: getattr(train, key) for key in TRAIN_KEYS},
        )
        classifier.settings = classifier._other_settings(recipe)
        classes = np.array(stored.get("classes", recipe.task.labels))
        classifier._keep_files(saved.folder, read_learned(path))
        classifier._set_fitted(classes, recipe, Predictor.load(path), None)
        return classifier

    def _repr_html_(self) -> str:
        """Return the parameters and, after ``fit``, the results on the texts that it held out, for a notebook."""
        parameters: str = estimator_html_repr(self)
        has_results = self.__sklearn_is_fitted__() and self._held_out is not None
        return parameters + (self.report()._repr_html_() if has_results else "")

    def _set_fitted(
        self, classes: NDArray[Any], recipe: Recipe, predictor: Predictor, held_out: _HeldOut | None
    ) -> None:
        self.classes_ = classes
        self.recipe_ = recipe
        self._predictor = predictor
        self._held_out = held_out

    @staticmethod
    def _metrics(recipe: Recipe, expected: Sequence[int], probabilities: NDArray[np.float64]) -> Metrics:
        """Return the metrics of N answers by their probabilities, (N, K), and their true labels."""
        with np.errstate(divide="ignore"):
            scores = LabelScores(np.log(probabilities), probabilities)
        answers, truth = probabilities.argmax(axis=1), np.array(expected)
        return compute_metrics("score", recipe.task.labels, truth, answers, recipe.evaluate, scores=scores)

    def _saved_files(self) -> dict[str, bytes]:
        """Return the content of the files of ``save_pretrained``, by their names."""
        check_is_fitted(self)
        stored = {"classes": self.classes_.tolist(), "validation_fraction": self.validation_fraction}
        return {**self._files, _FILE: f"{json.dumps(stored)}\n".encode()}

    def _other_settings(self, recipe: Recipe) -> dict[str, Any] | None:
        """Return the keys of ``recipe`` that no other parameter determines, as values of ``settings``."""
        values = recipe.model_dump()
        labels = recipe.task.labels
        own = estimator_recipe(self.get_params(deep=False), labels, labels, recipe.train.seed)
        keys = [key.split(".") for key in differences(own, recipe)]
        return {f"{key[0]}.{key[1]}": values[key[0]][key[1]] for key in keys if key[0] in _SETTABLE} or None

    def _predictions(self, X: Sequence[str]) -> Predictions:  # noqa: N803
        check_is_fitted(self)
        texts = plain_texts(X)
        with shown_progress(self.verbose > 0):
            return self._loaded(Predictor.load).predict(texts)
