"""The scikit-learn estimator for several questions: ``QuestionClassifier(questions).fit(texts, answers)``.

N: texts. D: outputs; a question is one, or for ``multi`` one for each option. K: labels of an output.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from whinchat.data.answers import answer_splits
from whinchat.data.checks import require_every_answer
from whinchat.data.dataset import Corpus, DataReport, Split, certain_answer
from whinchat.data.estimator_input import InputError, plain_texts
from whinchat.data.learned_texts import learned_after, read_learned
from whinchat.data.rows import Row
from whinchat.data.splits import carve_splits
from whinchat.evaluation.calibrator import Calibrator, save_calibrators
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.evaluation.question_scores import QuestionScorer
from whinchat.evaluation.reliability import ScoredSplit, fit_with_threshold
from whinchat.hub.client import fetch_classifier
from whinchat.inference.question_predictor import QuestionPredictions, QuestionPredictor
from whinchat.output_files import temporary_folder
from whinchat.progress import shown_progress
from whinchat.recipe.estimator_recipe import SOURCE, question_estimator_recipe
from whinchat.recipe.loader import without_home
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.recipe.task import Task
from whinchat.storage.locate import find_classifier
from whinchat.text_estimator import TextEstimator


class QuestionClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A small chat model that answers several questions about a text, with scikit-learn's interface of multi-output.

    An output is a question, or for a ``multi`` question each of its options. X is a sequence of N strings. Y is a
    DataFrame or a mapping with a column for each question, in which ``multi`` questions hold lists of options and
    missing answers are None; or an array (N, D) in the order of ``output_names_``, in which options of ``multi``
    questions are 0 or 1. For ``multi`` questions alone, that is scikit-learn's indicator matrix.

    Args:
        questions: name -> question, as in ``task.questions`` of a recipe, such as
            ``{"angry": {"type": "yes_no", "instructions": "Is the customer angry?"}}``.
        model, method, learning_rate, num_train_epochs, per_device_train_batch_size, metric, validation_fraction,
            random_state, settings, verbose: as for ``Classifier``.
        instruction: the system prompt; None for a general one.
        class_weight: None or "balanced"; a question can have ``class_weights`` of its own.

    Attributes:
        output_names_: names of the D outputs, such as ``team`` or ``tags: refund``.
        classes_: the labels of each output, D arrays (K,): options, or 0 and 1 for an option of a ``multi`` question.
        recipe_: the recipe that the classifier was trained with.

    Example:
        >>> from whinchat import QuestionClassifier
        >>> questions = {"angry": {"type": "yes_no", "instructions": "Is the customer angry?"}}
        >>> model = QuestionClassifier(questions).fit(texts, {"angry": ["yes", "no"]})  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0913  # scikit-learn takes every setting of an estimator as an argument
        self,
        questions: Mapping[str, Mapping[str, Any]],
        *,
        model: str | os.PathLike[str] = "package:smollm2-135m-instruct",
        instruction: str | None = None,
        method: str = "lora",
        learning_rate: float = 1e-3,
        num_train_epochs: float = 3.0,
        per_device_train_batch_size: int = 16,
        class_weight: str | None = None,
        metric: MetricName = "accuracy",
        validation_fraction: float = 0.1,
        random_state: int | np.random.RandomState | None = 42,
        settings: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.questions = questions
        self.model = model
        self.instruction = instruction
        self.method = method
        self.learning_rate = learning_rate
        self.num_train_epochs = num_train_epochs
        self.per_device_train_batch_size = per_device_train_batch_size
        self.class_weight = class_weight
        self.metric = metric
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Sequence[str], Y: Any) -> Self:  # noqa: N803  # scikit-learn's names
        """Train on N texts and their answers; see the class for the form of Y.

        Raises:
            InputError: X holds no texts, or Y has not one row for each text.
            DataError: an answer is no option, a text has no answer at all, or an option has no text.
            RecipeError: a parameter has a value that a recipe does not allow.
            WhinchatError: the model cannot be loaded, or does not fit into memory.
        """
        # Only fitting needs the trainer, which takes seconds to import; predicting must not wait for it.
        from whinchat.training import prepare, trackers, train

        texts, seed = plain_texts(X), self._seed()
        recipe = without_home(question_estimator_recipe(self.get_params(deep=False), seed))
        corpus = _corpus(_rows(recipe, texts, Y), recipe.task, self.validation_fraction, seed)
        with shown_progress(self.verbose > 0), temporary_folder() as folder:
            adapter, checkpoints = folder / "adapter", folder / "checkpoints"
            prepare.warn_of_learned(recipe, corpus)
            learned = learned_after(recipe.backbone.model, corpus)
            backbone, template = prepare.prepare_training(recipe, corpus)
            recipe = recipe.with_date(template.task.date)
            run_trackers = trackers.Trackers(recipe.train.report_to)
            engine, _ = train.train(recipe, corpus, backbone, template, checkpoints, adapter, run_trackers)
            run_trackers.finish()
            engines = tuple(decision_engines(engine, recipe.task))
            scorer = QuestionScorer(engines, recipe.evaluate.per_device_eval_batch_size)
            calibrators = tuple(_calibrator(recipe, corpus.validation, scorer, index) for index in range(len(engines)))
            if all(calibrator.rows for calibrator in calibrators):
                save_calibrators(calibrators, recipe.task.decisions, adapter)
            self._keep_files(adapter, learned)
            self._set_fitted(QuestionPredictor(recipe, engines, calibrators))
        return self

    def predict_proba(self, X: Sequence[str]) -> list[NDArray[np.float64]]:  # noqa: N803
        """Return the probabilities of each output, D arrays (N, K), with columns in the order of ``classes_``."""
        return [own.probabilities for own in self.answer(X).decisions]

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return the label of each output for each text, (N, D): of objects, or of 0 and 1 for ``multi`` alone."""
        outputs = [
            classes[own.label_indices] for classes, own in zip(self.classes_, self.answer(X).decisions, strict=True)
        ]
        if all(question.type == "multi" for question in self.recipe_.task.questions.values()):
            return np.stack(outputs, axis=1)
        return np.stack([output.astype(object) for output in outputs], axis=1)

    def answer(self, X: Sequence[str]) -> QuestionPredictions:  # noqa: N803
        """Return the answers to each question about each text, with the probability of every option."""
        check_is_fitted(self)
        texts = plain_texts(X)
        with shown_progress(self.verbose > 0):
            return self._loaded(QuestionPredictor.load).predict(texts)

    def score(self, X: Sequence[str], Y: Any) -> float:  # noqa: N803
        """Return the share of texts with every given answer right, as ``MultiOutputClassifier.score`` does."""
        check_is_fitted(self)
        rows = _rows(self.recipe_, plain_texts(X), Y)
        found = np.stack([own.label_indices for own in self.answer(X).decisions], axis=1)
        right = [
            all(certain_answer(answer) in {None, label} for answer, label in zip(answers, labels, strict=True))
            for answers, labels in zip(rows.answers, found.tolist(), strict=True)
        ]
        return float(np.mean(right))

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Load a classifier from a folder of ``save_pretrained``, from a run with questions, or from the hub.

        Raises:
            HubError, RunError, DataError, ModelError: as ``Classifier.from_pretrained`` raises them.
        """
        path = fetch_classifier(source)
        saved = find_classifier(path, with_questions=True)
        task, train = saved.recipe.task, saved.recipe.train
        classifier = cls(
            {name: question.model_dump() for name, question in task.questions.items()},
            model=saved.recipe.backbone.model,
            instruction=task.instruction,
            method=saved.recipe.adapter.method,
            learning_rate=train.learning_rate,
            num_train_epochs=train.num_train_epochs,
            per_device_train_batch_size=train.per_device_train_batch_size,
            class_weight=None if train.class_weights == "none" else str(train.class_weights),
            metric=saved.recipe.evaluate.metric,
            random_state=train.seed,
        )
        classifier._keep_files(saved.folder, read_learned(path))
        classifier._set_fitted(QuestionPredictor.load(path))
        return classifier

    def _set_fitted(self, predictor: QuestionPredictor) -> None:
        decisions = predictor.recipe.task.decisions
        self.recipe_ = predictor.recipe
        self.output_names_ = [decision.title for decision in decisions]
        self.classes_ = [np.array(one.labels) if one.option is None else np.array([0, 1]) for one in decisions]
        self._predictor = predictor

    def _saved_files(self) -> dict[str, bytes]:
        """Return the content of the files of ``save_pretrained``, by their names."""
        check_is_fitted(self)
        return self._files


def _rows(recipe: Recipe, texts: Sequence[str], answers: Any) -> Split:
    """Return the rows with the answers of Y; raises InputError or DataError as ``QuestionClassifier.fit`` does."""
    data = recipe.data.for_questions(recipe.task.questions)
    columns = _columns(recipe.task, answers)
    for name, column in columns.items():
        if len(column) != len(texts):
            raise InputError(f"Y: {name} has {len(column)} rows for {len(texts)} texts; give one row for each text")
    cells = zip(*(columns[name] for name in recipe.task.questions), strict=True)
    rows = [
        Row(text, "", "row ", number, tuple(own)) for number, (text, own) in enumerate(zip(texts, cells, strict=True))
    ]
    return answer_splits({"train": rows}, recipe.task, data)["train"]


def _columns(task: Task, answers: Any) -> dict[str, list[Any]]:
    """Return the cells of each question, from a table with such columns or from an array of outputs."""
    if isinstance(answers, Mapping) or hasattr(answers, "columns"):
        if missing := [name for name in task.questions if name not in answers]:
            raise InputError(f"Y: has no column {', '.join(missing)}; give a column for each question")
        return {name: [_plain(cell) for cell in answers[name]] for name in task.questions}
    table = np.asarray(answers, dtype=object)
    size = len(task.decisions)
    if table.ndim == 1 and size == 1:
        table = table[:, None]
    if table.ndim != 2 or table.shape[1] != size:
        raise InputError(
            f"Y: has the shape {table.shape}; give an array (N, {size}) of outputs, or a table with a column for each "
            "question"
        )
    columns: dict[str, list[Any]] = {name: [] for name in task.questions}
    for row in table:
        of_question: dict[str, list[Any]] = {name: [] for name in task.questions}
        for decision, value in zip(task.decisions, row, strict=True):
            of_question[decision.question].append(_plain(value))
        for name, question in task.questions.items():
            values = of_question[name]
            columns[name].append(values[0] if question.type != "multi" else _chosen(name, question.names, values))
    return columns


def _chosen(name: str, options: Sequence[str], values: Sequence[Any]) -> list[str] | None:
    """Return the options whose value is 1; None where no option has a value."""
    if all(value is None for value in values):
        return None
    if bad := [value for value in values if value not in (0, 1)]:
        raise InputError(f"Y: {name} holds {bad[0]!r} for an option; give 0 or 1")
    return [option for option, value in zip(options, values, strict=True) if value]


def _plain(cell: Any) -> Any:
    """Return a cell as readers of tables know it: plain Python values, None for a missing one."""
    if isinstance(cell, np.ndarray | tuple | set | frozenset):
        return sorted(cell) if isinstance(cell, set | frozenset) else list(cell)
    if isinstance(cell, np.generic):
        cell = cell.item()
    is_missing = cell is None or type(cell).__name__ == "NAType" or (isinstance(cell, float) and np.isnan(cell))
    return None if is_missing else cell


def _corpus(rows: Split, task: Task, fraction: float, seed: int) -> Corpus:
    """Return the rows to train on and, for ``fraction``, rows to calibrate on; raises as ``fit`` does."""
    if isinstance(fraction, bool | str | None) or not 0 <= fraction < 1:
        raise InputError(f"validation_fraction: must lie from 0 to below 1; found {fraction!r}")
    train, validation = rows, None
    if count := round(fraction * len(rows)):
        train, carved = carve_splits(rows, {"validation": count}, seed, SOURCE)
        validation = carved["validation"]
    require_every_answer(train, task, SOURCE)
    return Corpus(SOURCE, None, train, validation, None, DataReport())


def _calibrator(recipe: Recipe, validation: Split | None, scorer: QuestionScorer, index: int) -> Calibrator:
    """Return the calibrator of a decision, fitted on its validation rows; without any, one that changes nothing."""
    decision = recipe.task.decisions[index]
    own = None if validation is None else validation.of_decision(index)
    if own is None or not len(own):
        return Calibrator(decision.labels)
    scores = scorer.score(own.texts, index).astype(np.float64)
    return fit_with_threshold(ScoredSplit(own, scores), decision.labels, recipe.evaluate)
