"""Give a finished run a student, which answers the texts of which it is sure in place of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whinchat.checksums import drop_checked_files
from whinchat.data.cleaning import clean
from whinchat.data.dataset import Corpus, Split
from whinchat.data.formats.table_registry import open_table
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError, RunError
from whinchat.evaluation.agreement_test import fewest_texts, find_threshold
from whinchat.evaluation.cascade_results import (
    CASCADE_FILE,
    CASCADE_FILES,
    DEFAULT_AGREEMENT,
    DEFAULT_DELTA,
    CascadeFacts,
    CascadeQuality,
)
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.metrics import count_answers, paired_gain
from whinchat.evaluation.ngram_student import Floats, NgramStudent
from whinchat.inference.cascade import Cascade, decision_labels, joint_confidence
from whinchat.inference.prediction_columns import readable_texts
from whinchat.inference.predictor import Predictions
from whinchat.inference.question_predictor import AnyPredictor, QuestionPredictions, load_predictor
from whinchat.output_files import require_writable, writing
from whinchat.pipelines.stored_runs import distillation_data
from whinchat.progress import logger
from whinchat.recipe.schema import Recipe
from whinchat.report.question_pages import write_question_pages
from whinchat.report.write import write_pages
from whinchat.storage.folder_update import update_folder
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord
from whinchat.storage.student_files import calibration_digest

# Rows of a table that are read at a time.
_BLOCK = 1000
# Every fifth unlabelled text, and no more than so many, tests the student.
_HELD_OUT, _MOST_HELD_OUT = 5, 10_000
# More texts make a student hardly better, and the model must answer each.
MOST_TEXTS = 100_000


@dataclass(frozen=True)
class _Texts:
    """The texts of a distillation, by what they are once cleaned; none is in two of the mappings.

    Attributes:
        train: texts of the training rows, to learn from.
        unlabelled: texts without labels, to learn from.
        held_out: texts to test on.
        held_out_name: where the latter come from.
    """

    train: Mapping[str, str]
    unlabelled: Mapping[str, str]
    held_out: Mapping[str, str]
    held_out_name: str

    @property
    def count(self) -> int:
        """The number of all texts."""
        return len(self.train) + len(self.unlabelled) + len(self.held_out)

    def without_faults(self, find_fault: Callable[[str], str]) -> _Texts:
        """Return the texts in which ``find_fault`` finds no fault."""
        parts = self.train, self.unlabelled, self.held_out
        kept = [{key: text for key, text in part.items() if not find_fault(text)} for part in parts]
        if refused := self.count - sum(map(len, kept)):
            logger.warning(f"{refused:,} texts are left out, because the model's chat template refuses them")
        train, unlabelled, held_out = kept
        return _Texts(train, unlabelled, held_out, self.held_out_name)

    def require_enough(self, path: Path, agreement: float, delta: float) -> None:
        """Raise RunError where the run in ``path`` has too few texts to test a student, or none to learn from."""
        if len(self.held_out) < (needed := fewest_texts(agreement, delta)):
            raise RunError(
                f"{path}: {len(self.held_out):,} held-out texts ({self.held_out_name}) are too few to test an "
                f"agreement of {agreement:g} at {delta:g}, which takes {needed:,}; give more texts with --unlabelled, "
                "or ask for a lower agreement"
            )
        if not self.train and not self.unlabelled:
            raise RunError(f"{path}: has no texts to learn from that are not evaluated; give some with --unlabelled")


def distill_run(
    run: str | Path,
    unlabelled: str | Path | None = None,
    *,
    agreement: float = DEFAULT_AGREEMENT,
    delta: float = DEFAULT_DELTA,
    text_column: str | None = None,
) -> CascadeFacts:
    """Train a student on a finished run's answers; from then on, it answers the texts of which it is sure.

    The student is a linear model on n-grams of bytes (``NgramStudent``). It learns the calibrated probabilities of the
    run's classifier on the training texts and on unlabelled ones. A text is answered by the student where its
    confidence is at or above a threshold, and by the classifier elsewhere. The threshold is the lowest that passes an
    exact test of agreement on held-out texts (``find_threshold``): every fifth unlabelled text, or without such texts
    the validation rows. Files, server, Ray and Python use both as one classifier.

    Args:
        run: folder of a finished run.
        unlabelled: a table of texts like those to be answered later. The more there are, the more the student answers.
        agreement: share of the student's answers that must be those of the classifier. With questions, all answers
            about a text together count as one.
        delta: the probability that the share is lower all the same, over the draw of held-out texts.
        text_column: column of ``unlabelled`` with the texts; by default as the recipe says.

    Returns:
        What was made and measured, as ``cascade.json`` holds it.

    Raises:
        RunError: the run is not finished, its data has changed since, or it has neither validation rows nor enough
            unlabelled texts.
        DataError: the table cannot be read, or ``agreement`` or ``delta`` is out of range.
        OutputError: the run folder cannot be written.
    """
    for name, value in (("agreement", agreement), ("delta", delta)):
        if not 0 < value < 1:
            raise DataError(f"{name}: {value} is not between 0 and 1")
    folder = RunFolder(Path(run))
    with folder.hold_finished():
        require_writable(folder.adapter / CASCADE_FILE)
        record, recipe, corpus = distillation_data(folder)
        texts = _gather(recipe, corpus, unlabelled, text_column)
        texts.require_enough(folder.path, agreement, delta)
        predictor = load_predictor(folder.path, student=False)
        started = time.perf_counter()
        texts, checked = texts.without_faults(predictor.fault), texts.count
        check_seconds = (time.perf_counter() - started) / checked
        texts.require_enough(folder.path, agreement, delta)
        wanted, calibration = (agreement, delta), calibration_digest(folder.adapter)
        cascade = _distill(predictor, recipe, corpus, texts, wanted, calibration, check_seconds)
        with update_folder(folder.path) as changed:
            new = RunFolder(changed)
            cascade.save(new.adapter, folder.adapter)
            _write_pages(record, cascade.facts, new)
    return cascade.facts


def remove_student(run: str | Path) -> bool:
    """Remove the student of a finished run, so that its model answers every text again.

    Returns:
        Whether there was one.

    Raises:
        RunError: the run is not finished.
        OutputError: the run folder cannot be written.
    """
    folder = RunFolder(Path(run))
    with folder.hold_finished():
        found = any((folder.adapter / name).is_file() for name in CASCADE_FILES)
        # The files go last, so that the same command finishes what a kill left.
        if found:
            with update_folder(folder.path) as changed:
                _write_pages(folder.read_record(), None, RunFolder(changed))
        with writing(folder.adapter):
            drop_checked_files(folder.adapter, CASCADE_FILES)
    return found


def _write_pages(record: RunRecord | QuestionsRecord, facts: CascadeFacts | None, folder: RunFolder) -> None:
    """Write card and report of a run whose student is that of ``facts`` into ``folder``."""
    if isinstance(record, QuestionsRecord):
        write_question_pages(replace(record, cascade=facts), folder)
    else:
        write_pages(replace(record, cascade=facts), folder)


def _gather(recipe: Recipe, corpus: Corpus, unlabelled: str | Path | None, text_column: str | None) -> _Texts:
    """Return the texts to learn from and the texts to test on; no text of an evaluated row is among the former."""

    def by_cleaned(texts: Sequence[str]) -> dict[str, str]:
        return {clean(text, recipe.task.clean): text for text in texts}

    validation, test = (() if part is None else part.texts for part in (corpus.validation, corpus.test))
    evaluated = by_cleaned((*validation, *test))
    train = {key: text for key, text in by_cleaned(corpus.trained.texts).items() if key not in evaluated}
    if unlabelled is None:
        return _Texts(_first(train, MOST_TEXTS), {}, by_cleaned(validation), "validation")
    new = by_cleaned(_read_texts(Path(unlabelled), recipe, text_column))
    keys = [key for key in new if key not in train and key not in evaluated]
    # In an order that says nothing about the table, so that tables sorted by time or topic are held out evenly.
    keys = [keys[index] for index in np.random.default_rng(recipe.data.split_seed).permutation(len(keys)).tolist()]
    held_out = min(len(keys) // _HELD_OUT, _MOST_HELD_OUT)
    train = _first(train, MOST_TEXTS)
    learned = keys[held_out : held_out + MOST_TEXTS - len(train)]
    # The card is published, and folders of this machine are not.
    name = f"texts of {Path(unlabelled).name} that it did not learn from"
    return _Texts(train, {key: new[key] for key in learned}, {key: new[key] for key in keys[:held_out]}, name)


def _first(texts: Mapping[str, str], count: int) -> dict[str, str]:
    return dict(islice(texts.items(), count))


def _read_texts(path: Path, recipe: Recipe, text_column: str | None) -> list[str]:
    table = open_table(path, TextColumns.of(recipe.data, text_column), format_name="auto")
    texts, rows = list[str](), 0
    for place in table.locate_blocks(_BLOCK, lambda _: None):
        block = table.read_block(place)
        texts += readable_texts(block)
        rows += len(block.texts)
    if unreadable := rows - len(texts):
        logger.warning(f"{path}: {unreadable:,} of {rows:,} rows have no readable text, and are left out")
    return texts


def _distill(
    predictor: AnyPredictor,
    recipe: Recipe,
    corpus: Corpus,
    texts: _Texts,
    wanted: tuple[float, float],
    calibration: str,
    check_seconds: float,
) -> Cascade:
    """Fit the student, choose its threshold and measure both; each text was checked in ``check_seconds``."""
    training = len(texts.train) + len(texts.unlabelled)
    asked = {**texts.train, **texts.unlabelled, **texts.held_out}
    logger.info(f"The classifier answers {len(asked):,} texts, from which the student learns and on which it is tested")
    started = time.perf_counter()
    answers = _probabilities(predictor.predict(list(asked.values())))
    classifier_rate = _per_second(len(asked), started)
    keys = list(asked)
    held_out = keys[training:]
    student = NgramStudent.fit(keys[:training], [own[:training] for own in answers])
    started = time.perf_counter()
    own = [np.exp(scores) for scores in student.log_probabilities(held_out)]
    # Each text is checked, whoever answers it, and that takes most of the student's time.
    student_rate = 1 / (1 / _per_second(len(held_out), started) + check_seconds)
    agrees = _agrees(own, [probabilities[training:] for probabilities in answers])
    test = find_threshold(joint_confidence(own), agrees, *wanted)
    facts = CascadeFacts(
        labels=decision_labels(recipe.task),
        test=test,
        training_texts=training,
        unlabelled_texts=len(texts.unlabelled),
        held_out=texts.held_out_name,
        classifier_per_second=classifier_rate,
        student_per_second=student_rate,
        quality=None,
        calibration=calibration,
    )
    cascade = Cascade(student, facts)
    split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    if recipe.task.questions or (split.name == "validation" and not texts.unlabelled):
        return cascade
    return Cascade(student, replace(facts, quality=_measure(predictor, cascade, recipe, split)))


def _per_second(count: int, started: float) -> float:
    """Return how many of ``count`` texts were answered a second; the clock may not have moved since ``started``."""
    return count / max(time.perf_counter() - started, time.get_clock_info("perf_counter").resolution)


def _probabilities(predictions: Predictions | QuestionPredictions) -> list[Floats]:
    """Return the probabilities of each decision, (N, K)."""
    if isinstance(predictions, Predictions):
        return [predictions.probabilities]
    return [own.probabilities for own in predictions.decisions]


def _agrees(own: Sequence[Floats], others: Sequence[Floats]) -> NDArray[np.bool_]:
    """Return whether two classifiers answer each text alike in every decision, (N,)."""
    pairs = zip(own, others, strict=True)
    alike: NDArray[np.bool_] = np.all([one.argmax(axis=1) == other.argmax(axis=1) for one, other in pairs], axis=0)
    return alike


def _measure(predictor: AnyPredictor, cascade: Cascade, recipe: Recipe, split: Split) -> CascadeQuality:
    """Measure classifier, student and cascade of a task with labels on the rows of ``split``."""
    classifier = _probabilities(predictor.predict(split.texts))
    own, sure = cascade.answer([clean(text, recipe.task.clean) for text in split.texts])
    size, truth = classifier[0].shape[1], np.array(split.labels)
    answers = {"classifier": classifier[0].argmax(axis=1), "student": own[0].argmax(axis=1)}
    answers["cascade"] = np.where(sure, answers["student"], answers["classifier"])
    metric = METRICS[recipe.evaluate.metric].function
    values = {name: float(metric(count_answers(truth, given, size)[None])[0]) for name, given in answers.items()}
    change, interval = paired_gain(
        recipe.evaluate.metric,
        truth,
        answers["classifier"],
        answers["cascade"],
        size=size,
        settings=recipe.evaluate,
    )
    return CascadeQuality(
        split.name,
        len(split),
        int(sure.sum()),
        int((sure & _agrees(own, classifier)).sum()),
        recipe.evaluate.metric,
        **values,
        change=change,
        change_interval=interval,
    )
