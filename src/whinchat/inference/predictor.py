"""A trained classifier in memory: texts in, predictions out. Command line, server, exports and ``Classifier`` use it.

N: texts. K: labels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whinchat.data.cleaning import clean
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.scoring import score_prompts
from whinchat.hub.client import fetch_classifier
from whinchat.inference.cascade import Cascade, load_cascade
from whinchat.inference.prediction_columns import PROBABILITY_DIGITS
from whinchat.models.adapters import load_trained_adapter
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache, keep_merged_weights
from whinchat.progress import Progress
from whinchat.prompts.chat_tokenizer import ChatTokenizer
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.storage.locate import SavedClassifier, find_classifier


@dataclass(frozen=True)
class Predictions:
    """The predictions for N texts, in the order of the texts.

    Attributes:
        labels: names of the K labels, in the order of the columns of ``probabilities``.
        probabilities: calibrated probabilities, or uncalibrated if the classifier has no calibration, (N, K).
        unsure: whether the highest probability lies below the classifier's threshold, (N,).
        by_student: whether the student of a cascade gave the answer, (N,); None for a classifier without a student.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    unsure: NDArray[np.bool_]
    by_student: NDArray[np.bool_] | None = None

    @classmethod
    def from_scores(cls, log_probs: NDArray[np.floating[Any]], calibrator: Calibrator) -> Self:
        """Turn the scores of N texts, (N, K), into probabilities."""
        probabilities = calibrator.probabilities(log_probs)
        return cls(calibrator.labels, probabilities, calibrator.unsure(probabilities))

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Join one or more parts, all of the same labels, in their order."""
        return cls(
            parts[0].labels,
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.unsure for part in parts]),
            None if parts[0].by_student is None else np.concatenate([part.by_student for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, rows: slice) -> Predictions:
        return self.take(range(len(self))[rows])

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return the predictions of some rows, in the order of ``rows``; a row may occur more than once."""
        chosen = list(rows)
        by_student = None if self.by_student is None else self.by_student[chosen]
        return Predictions(self.labels, self.probabilities[chosen], self.unsure[chosen], by_student)

    def replace(self, rows: NDArray[np.int64], others: Predictions) -> Predictions:
        """Return the same predictions with ``others`` in place of those of ``rows``."""
        probabilities, unsure = self.probabilities.copy(), self.unsure.copy()
        probabilities[rows], unsure[rows] = others.probabilities, others.unsure
        return Predictions(self.labels, probabilities, unsure, self.by_student)

    @property
    def label_indices(self) -> NDArray[np.int64]:
        """Index of the predicted label of each text, (N,): the label with the highest probability."""
        indices: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return indices

    @property
    def label_names(self) -> list[str]:
        """The predicted label of each text, by name."""
        return [self.labels[index] for index in self.label_indices]

    def to_dict(self, row: int) -> dict[str, Any]:
        """Return the prediction for one text as plain JSON types."""
        return {
            "label": self.labels[self.label_indices[row]],
            "unsure": bool(self.unsure[row]),
            "probabilities": dict(zip(self.labels, self.probabilities[row].tolist(), strict=True)),
            **({} if self.by_student is None else {"by_student": bool(self.by_student[row])}),
        }

    def cells(self) -> Iterator[Sequence[object]]:
        """Yield the cells of each column that ``added_column_types`` names, without the errors."""
        yield self.label_names
        yield self.unsure.tolist()
        yield from self.probabilities.round(PROBABILITY_DIGITS).T.tolist()

    def count(self) -> tuple[dict[str, int], int]:
        """Return how many texts have each label, and how many are unsure."""
        return dict(Counter(self.label_names)), int(self.unsure.sum())


@dataclass(frozen=True)
class Predictor:
    """A trained classifier.

    Attributes:
        recipe: the recipe that the classifier was trained with.
        engine: the model together with its prompt template.
        calibrator: turns scores into probabilities and labels.
        cascade: the student that answers the texts of which it is sure; None where the model answers all.
    """

    recipe: Recipe
    engine: Engine
    calibrator: Calibrator
    cascade: Cascade | None = None

    @classmethod
    def load(cls, path: str | Path, *, student: bool = True) -> Self:
        """Load the classifier of a run folder, of an adapter folder, or of OWNER/NAME on the hub.

        Args:
            path: the folder, or OWNER/NAME.
            student: whether a student that ``distill_run`` made answers the texts of which it is sure.

        Raises:
            HubError: the hub has no such classifier, or cannot be reached.
            RunError: ``path`` holds no finished run, no adapter and no exported model.
            ModelError: the backbone cannot be loaded, or a file is damaged.
        """
        path = fetch_classifier(path)
        saved = find_classifier(path)
        recipe, engine = load_engine(path)
        return cls(recipe, engine, load_calibrator(saved), load_cascade(saved) if student else None)

    def fault(self, text: str) -> str:
        """Return why there is no prompt for ``text``; an empty string where there is one."""
        return self.engine.template.fault(text)

    def score(
        self,
        texts: Sequence[str],
        *,
        deterministic: bool = False,
        bar: Progress | None = None,
        prefix: PrefixCache | None = None,
    ) -> NDArray[np.float32]:
        """Return the log-probability of each label, (N, K), up to a constant of each text.

        ``deterministic``, ``bar`` and ``prefix`` are those of ``score_prompts``.
        """
        return score_prompts(
            self.engine,
            self.engine.template.encode(texts),
            self.recipe.evaluate.per_device_eval_batch_size,
            "Labelling",
            deterministic=deterministic,
            bar=bar,
            prefix=prefix,
            labels_only=True,
        )

    def predict(
        self,
        texts: Sequence[str],
        *,
        deterministic: bool = False,
        bar: Progress | None = None,
        prefix: PrefixCache | None = None,
    ) -> Predictions:
        """Predict the label of each text; ``deterministic``, ``bar`` and ``prefix`` are those of ``score_prompts``."""

        def ask_model(asked: Sequence[str]) -> tuple[Predictions, ...]:
            scores = self.score(asked, deterministic=deterministic, bar=bar, prefix=prefix)
            return (Predictions.from_scores(scores, self.calibrator),)

        return predict_with_student(self.recipe, self.cascade, (self.calibrator,), texts, ask_model, bar)[0]


def predict_with_student(
    recipe: Recipe,
    cascade: Cascade | None,
    calibrators: Sequence[Calibrator],
    texts: Sequence[str],
    ask_model: Callable[[Sequence[str]], tuple[Predictions, ...]],
    bar: Progress | None,
) -> tuple[Predictions, ...]:
    """Return the predictions of each decision: the student's for the texts of which it is sure, the model's elsewhere.

    Args:
        recipe: the recipe of the classifier, which says how texts are cleaned.
        cascade: the student; None to ask the model about all texts.
        calibrators: the calibrator of each decision, whose threshold says which answers are unsure.
        texts: N texts.
        ask_model: returns the model's predictions of each decision for some of the texts.
        bar: advanced by the texts that the student answers; ``ask_model`` advances it by the others.
    """
    if cascade is None:
        return ask_model(texts)
    answered, sure = cascade.answer([clean(text, recipe.task.clean) for text in texts])
    own = tuple(
        Predictions(calibrator.labels, probabilities, calibrator.unsure(probabilities), sure)
        for probabilities, calibrator in zip(answered, calibrators, strict=True)
    )
    rest = np.flatnonzero(~sure)
    if bar is not None:
        bar.update(len(texts) - len(rest))
    if not len(rest):
        return own
    asked = ask_model([texts[row] for row in rest.tolist()])
    return tuple(one.replace(rest, other) for one, other in zip(own, asked, strict=True))


def load_calibrator(saved: SavedClassifier) -> Calibrator:
    """Load the calibrator of a classifier; one without calibration is said to be so in the log.

    Raises:
        ModelError: the calibration is damaged, or belongs to other labels.
    """
    calibrator = Calibrator.load(saved.folder, saved.recipe.task.labels)
    if not calibrator.rows:
        warn_uncalibrated(saved)
    return calibrator


def warn_uncalibrated(saved: SavedClassifier) -> None:
    """Log that a classifier has no calibration."""
    logging.getLogger("whinchat").warning(
        f"{saved.folder}: is not calibrated, so the probabilities are the model's own; a run with a validation "
        "split calibrates them"
    )


def load_engine(path: Path, *, with_questions: bool = False) -> tuple[Recipe, Engine]:
    """Load the recipe and the model of the classifier in ``path``, which need not be calibrated yet.

    Args:
        path: the folder of the classifier.
        with_questions: whether the caller can answer the questions of a task that has several. The engine is that of
            the first decision then.

    Raises:
        RunError: ``path`` holds no trained run, no adapter and no exported model.
        ModelError: the backbone cannot be loaded, or the adapter does not fit it or was trained on another.
    """
    saved = find_classifier(path, to_answer=False, with_questions=with_questions)
    backbone = load_backbone(saved.recipe.backbone, trained=saved.folder)
    recipe, template = saved_prompts(saved, backbone.tokenizer)
    model = load_trained_adapter(backbone, saved.folder) if saved.has_adapter else backbone.model
    keep_merged_weights(model, backbone.plan)
    return recipe, Engine.build(model, backbone.plan, template)


def saved_prompts(saved: SavedClassifier, tokenizer: ChatTokenizer) -> tuple[Recipe, PromptTemplate]:
    """Return the recipe of a trained classifier, and the template of the prompts that it was trained on.

    Args:
        saved: the classifier on disk.
        tokenizer: the tokenizer of its backbone.

    Raises:
        PromptError: the tokenizer is not the one that the classifier was trained with.
    """
    recipe = saved.recipe
    template = tokenizer.template(recipe.dated(saved.day), chat_template=saved.chat_template())
    if recipe.task.date is None and template.task.date is not None:
        logging.getLogger("whinchat").warning(
            f"{saved.folder}: its prompts state the date, and the version that trained it did not store which; they "
            f"now say {template.task.date}. If training was on another day, set task.date in its recipe.yaml."
        )
    return recipe.with_date(template.task.date), template
