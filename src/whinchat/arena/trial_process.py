"""Run one trial in a process of its own, so that its peak memory can be measured.

``python -m whinchat.arena.trial_process RECORD < REQUEST`` reads what ``trial_request`` returns and writes the record.
The record is written in one step after everything was measured, so a process that ends early leaves none.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.arena.contestant_registry import find_kind, register_contestant
from whinchat.arena.contestants import make_contestant
from whinchat.arena.subsets import training_rows
from whinchat.arena.trials import Cost, TrialJob, TrialRecord, TrialResult
from whinchat.data.sources import load_corpus
from whinchat.errors import WhinchatError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.models.device import installed_versions, processor_name, usable_cores
from whinchat.models.memory import peak_memory_bytes
from whinchat.storage.json_records import from_json, to_json, write_json_record

_VERSIONED = ("whinchat", "torch", "transformers", "peft", "bitsandbytes", "scikit-learn", "numpy")


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
    evaluated = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    contestant = make_contestant(job.method, recipe)
    contestant.validation = corpus.validation
    times = [time.perf_counter()]
    contestant.load()
    times.append(time.perf_counter())
    rows_used = contestant.fit(train)
    times.append(time.perf_counter())
    log_probs = contestant.answer(evaluated.texts)  # (N, K)
    times.append(time.perf_counter())
    load_seconds, fit_seconds, answer_seconds = np.diff(times).tolist()
    parameters, trainable = contestant.parameters()
    predicted, expected = log_probs.argmax(axis=1), np.array(evaluated.labels)
    probabilities = Calibrator(recipe.task.labels).probabilities(log_probs)
    metrics = compute_metrics(
        "score",
        recipe.task.labels,
        expected,
        predicted,
        recipe.evaluate,
        scores=LabelScores(log_probs, probabilities),
        seconds=answer_seconds,
    )
    memory, device_memory = peak_memory_bytes(), _peak_device_bytes()
    result = TrialResult(
        metrics=metrics,
        expected=tuple(expected.tolist()),
        predicted=tuple(predicted.tolist()),
        cost=Cost(load_seconds, fit_seconds, answer_seconds, memory, device_memory, parameters, trainable),
        rows_used=rows_used,
        evaluated_on=evaluated.fingerprint(),
        trained_on=train.fingerprint(),
        machine={"processor": processor_name(), "cores": str(usable_cores()), "device": contestant.device},
        versions=installed_versions(_VERSIONED),
        notes=contestant.notes,
    )
    return TrialRecord(job, result)


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
