"""Run one trial in a process of its own, so that its peak memory can be measured.

``python -m whinchat.arena.trial_process RECORD < REQUEST`` reads what ``trial_request`` returns and writes the record.
The record is written in one step after everything was measured, so a process that ends early leaves none.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.contestant_registry import find_kind, register_contestant
from whinchat.arena.contestants import make_contestant
from whinchat.arena.subsets import arena_rows, training_rows
from whinchat.arena.trials import (
    Cost,
    LabelsResult,
    QuestionsResult,
    TrialDecision,
    TrialFacts,
    TrialJob,
    TrialQuestion,
    TrialRecord,
    TrialResult,
)
from whinchat.data.dataset import Split
from whinchat.data.learned_texts import count_learned
from whinchat.data.sources import load_corpus
from whinchat.errors import WhinchatError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.question_answers import DecisionTruth
from whinchat.evaluation.question_metrics import measure_scores
from whinchat.models.device import installed_versions, processor_name, usable_cores
from whinchat.models.memory import peak_memory_bytes
from whinchat.recipe.schema import Recipe
from whinchat.storage.json_records import from_json, to_json, write_json_record

Floats = NDArray[np.float64]

_VERSIONED = (
    "whinchat", "torch", "transformers", "peft", "bitsandbytes", "sentence-transformers", "setfit", "scikit-learn",
    "numpy",
)  # fmt: skip


def trial_request(job: TrialJob) -> str:
    """Return the input of a trial's process: the job, and its kind of contestant, which only this process may know."""
    kind = {"name": job.method.kind, **asdict(find_kind(job.method.kind))}
    return json.dumps({"kind": kind, "job": to_json(job)})


def run_trial(job: TrialJob) -> TrialRecord:
    """Load a contestant, fit it, let it answer, and measure.

    Raises:
        WhinchatError: the data, the model or the method does not allow it.
    """
    trial, recipe = job.trial, job.recipe
    corpus = load_corpus(recipe)
    train = training_rows(corpus.train, trial.rows, trial.seed, recipe.data.source)
    evaluated = arena_rows(corpus, recipe)
    contestant = make_contestant(job.method, recipe)
    contestant.validation = corpus.validation
    times = [time.perf_counter()]
    contestant.load()
    times.append(time.perf_counter())
    rows_used = contestant.fit_task(train)
    times.append(time.perf_counter())
    answers = contestant.answer_task(evaluated.texts)  # (N, K) for each decision
    times.append(time.perf_counter())
    load_seconds, fit_seconds, answer_seconds = np.diff(times).tolist()
    parameters, trainable = contestant.parameters_of_task()
    memory, device_memory = peak_memory_bytes(), _peak_device_bytes()
    facts = TrialFacts(
        cost=Cost(load_seconds, fit_seconds, answer_seconds, memory, device_memory, parameters, trainable),
        rows_used=rows_used,
        evaluated_on=evaluated.fingerprint(),
        trained_on=train.fingerprint(),
        machine={"processor": processor_name(), "cores": str(usable_cores()), "device": contestant.device},
        versions=installed_versions(_VERSIONED),
        notes=contestant.notes,
        model_commit=contestant.model_commit,
        learned_texts=count_learned(recipe.backbone.model, corpus.train) if job.method.has_chat_model else None,
    )
    return TrialRecord(job, _measure(recipe, evaluated, answers, facts))


def _measure(recipe: Recipe, evaluated: Split, answers: Sequence[Floats], facts: TrialFacts) -> TrialResult:
    """Measure the log-probabilities of each decision, (N, K), or of the labels of a task with labels."""
    if recipe.task.questions:
        questions = tuple(_measure_question(name, recipe, evaluated, answers) for name in recipe.task.questions)
        return QuestionsResult(**vars(facts), evaluated_rows=len(evaluated), questions=questions)
    (log_probs,) = answers
    expected, predicted = np.array(evaluated.labels), log_probs.argmax(axis=1)
    metrics = compute_metrics(
        "score",
        recipe.task.labels,
        expected,
        predicted,
        recipe.evaluate,
        scores=_scores(recipe.task.labels, log_probs),
        seconds=facts.cost.answer_seconds,
    )
    return LabelsResult(
        **vars(facts), metrics=metrics, expected=tuple(expected.tolist()), predicted=tuple(predicted.tolist())
    )


def _measure_question(name: str, recipe: Recipe, evaluated: Split, answers: Sequence[Floats]) -> TrialQuestion:
    """Measure how the decisions of a question are answered on the rows whose truth is known."""
    question, truths, scores, decisions = recipe.task.questions[name], [], [], []
    for index, decision in enumerate(recipe.task.decisions):
        if decision.question != name:
            continue
        truth = DecisionTruth.of(evaluated, index, len(decision.labels))
        own = _scores(decision.labels, answers[index][truth.rows])
        columns = (truth.rows, truth.expected, own.log_probs.argmax(axis=1))
        rows, expected, predicted = (tuple(column.tolist()) for column in columns)
        decisions.append(TrialDecision(rows, expected, predicted, len(decision.labels)))
        truths.append(truth)
        scores.append(own)
    metrics = measure_scores("score", question.type, question.names, truths, scores, recipe.evaluate)
    return TrialQuestion(name, question.type, metrics, tuple(decisions))


def _scores(labels: tuple[str, ...], log_probs: Floats) -> LabelScores:
    return LabelScores(log_probs, Calibrator(labels).probabilities(log_probs))


def _peak_device_bytes() -> int | None:
    """The accelerator's peak. torch is not imported to ask for it, so that contestants without torch stay small."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated()) or None


def main() -> int:
    """Return the exit code: 0, or 2 for a user's error, which is the last line of standard error."""
    request = json.load(sys.stdin)
    try:
        if ":" not in request["kind"]["name"]:
            register_contestant(**request["kind"])
        write_json_record(Path(sys.argv[1]), run_trial(from_json(TrialJob, request["job"])))
    except WhinchatError as fault:
        sys.stderr.write(f"\nerror: {' '.join(str(fault).split())}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
