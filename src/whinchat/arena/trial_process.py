"""One cell in a process of its own, so that its peak memory is its own.

Started as ``python -m whinchat.arena.trial_process OUT < JOB``.

The record is written when all is done, in one step; a process that ends before has left nothing.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.arena.contestants import make_contestant
from whinchat.arena.subsets import evaluated_rows, training_rows
from whinchat.arena.trials import Cost, TrialJob, TrialRecord, TrialResult
from whinchat.data.sources import load_corpus
from whinchat.errors import WhinchatError
from whinchat.evaluation.calibration import Calibrator
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.models.device import processor_name, usable_cores
from whinchat.models.memory import peak_memory_bytes
from whinchat.storage.atomic import write_json

_VERSIONED = ("whinchat", "torch", "transformers", "peft", "bitsandbytes", "scikit-learn", "numpy")


def run_trial(job: TrialJob) -> TrialRecord:
    """Load, fit, answer, measure.

    Raises:
        WhinchatError: the data, the model or the method does not allow it.
    """
    cell, recipe = job.cell, job.recipe
    corpus = load_corpus(recipe)
    train = training_rows(corpus.train, cell.rows, cell.seed, recipe.data.source)
    evaluated = evaluated_rows(corpus, recipe.evaluate)
    one = make_contestant(job.method, recipe)
    one.validation = corpus.validation
    times = [time.perf_counter()]
    one.load()
    times.append(time.perf_counter())
    used = one.fit(train)
    times.append(time.perf_counter())
    log_probs = one.answer(evaluated.texts)  # (N, K)
    times.append(time.perf_counter())
    load, fit, answer = np.diff(times).tolist()
    parameters, trainable = one.parameters()
    predicted, expected = log_probs.argmax(axis=1), np.array(evaluated.labels)
    shares = Calibrator(recipe.task.labels).probabilities(log_probs)
    measured = compute_metrics(
        "score",
        recipe.task.labels,
        expected,
        predicted,
        scores=LabelScores(log_probs, shares),
        resamples=recipe.evaluate.bootstrap_resamples,
        seed=recipe.evaluate.seed,
        seconds=answer,
    )
    return TrialRecord(
        job,
        TrialResult(
            measured=measured,
            expected=tuple(expected.tolist()),
            predicted=tuple(predicted.tolist()),
            cost=Cost(load, fit, answer, peak_memory_bytes(), _device_bytes(), parameters, trainable),
            rows_used=used,
            evaluated_on=evaluated.fingerprint(),
            trained_on=train.fingerprint(),
            machine={"processor": processor_name(), "cores": str(usable_cores()), "device": one.device},
            versions={"python": platform.python_version()} | {name: version(name) for name in _VERSIONED},
            notes=one.notes,
        ),
    )


def _device_bytes() -> int | None:
    """Peak of the accelerator; torch is not imported for it, so that contestants without it stay small."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated()) or None


def main() -> int:
    """The exit code: 0, or 2 for what a user can mend; the driver reads the last line of standard error."""
    out = Path(sys.argv[1])
    job = TrialJob.from_dict(json.load(sys.stdin))
    try:
        record = run_trial(job)
    except WhinchatError as fault:
        sys.stderr.write(f"\nerror: {' '.join(str(fault).split())}\n")
        return fault.exit_code
    write_json(out, record.to_dict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
