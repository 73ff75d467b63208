"""Examine one architecture: every cell of its row in the table."""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.helpers import finished_runs, tiny_models
from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.zoo import ZOO
from tests.helpers.zoo_checks import (
    TOLERANCE,
    Pair,
    generation_differences,
    load_pair,
    loss_errors,
    score_error,
    tuned_pair,
)

from benchmarks.zoo.speed import relative_speed
from whinchat.errors import WhinchatError
from whinchat.export.export_registry import export_names, holds_student
from whinchat.export.export_run import export_run
from whinchat.models.capabilities import continues_from_cache
from whinchat.pipelines.run import run

RIGHT, REFUSED, WRONG, TRACEBACK = "right", "refused", "WRONG", "TRACEBACK"
Cell = dict[str, str]
# Largest differences of a probability: for weights in 8 bits, and for a head whose bias is fitted on a few texts.
EXPORT_TOLERANCE, HEAD_TOLERANCE = 0.02, 0.1


def start_worker(log: Path) -> None:
    """Make a process ready to examine: one thread, and everything that libraries print goes to ``log``."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    log.parent.mkdir(parents=True, exist_ok=True)
    stream = log.open("a", encoding="utf-8")
    for standard in (sys.stdout, sys.stderr):
        os.dup2(stream.fileno(), standard.fileno())


def examine(name: str, skipped: Collection[str] = ()) -> dict[str, Any]:
    """Return the row of the architecture ``name``: the way that whinchat takes, and a cell for each column.

    Args:
        name: of ``ZOO``.
        skipped: "speed", "run" or an export format, which are left out.
    """
    kind = ZOO[name]
    row: dict[str, Any] = {"name": name, "model_type": kind.model_type}
    with tempfile.TemporaryDirectory(prefix="zoo-") as scratch:
        folder = Path(scratch) / "model"
        kind.save(folder)

        def judged(check: Callable[[], object]) -> Cell:
            return judge(check, scratch)

        pairs: list[Pair] = []
        row["load"] = judged(lambda: pairs.append(load_pair(folder)))
        if pairs:
            row["load"] = judged(lambda: pairs.append(tuned_pair(folder, Path(scratch) / "twin", pairs[0].backbone)))
        if len(pairs) == 2:
            tuned = pairs[1]
            row["way"] = _way(tuned)
            row["scores"] = judged(lambda: _scores(tuned))
            row["gradients"] = judged(lambda: _gradients(tuned))
            row["generation"] = judged(lambda: _generation(tuned))
        if "run" not in skipped:
            result = Path(scratch) / "run"
            source = finished_runs.write_csv(Path(scratch) / "texts.csv")
            with draw_no_figures():  # figures take longer than the run, and know nothing of the model
                recipe = finished_runs.recipe_for(folder, source, evaluate={"metric": "accuracy"})
                row["run"] = judged(lambda: run(recipe, result))
            if row["run"]["verdict"] == RIGHT:
                for form in {name for name in export_names() if not holds_student(name)}.difference(skipped):
                    row[form] = judged(lambda form=form: _export(result, form, Path(scratch) / form))
        if "speed" not in skipped and row.get("gradients", {}).get("verdict") == RIGHT:
            row["measured"] = judged(lambda: row.update(speed=relative_speed(kind, Path(scratch))))
    return row


def judge(check: Callable[[], object], scratch: str = "") -> Cell:
    """Return the verdict of a check: right where nothing is raised, refused where whinchat says why."""
    try:
        check()
    except WhinchatError as fault:
        return {"verdict": REFUSED, "reason": str(fault).splitlines()[0].replace(f"{scratch}/", "")}
    except AssertionError as fault:
        return {"verdict": WRONG, "reason": str(fault)}
    # Whatever a model raises is what this table is to show.
    except Exception as fault:  # noqa: BLE001
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        reason = (str(fault).strip().splitlines() or [""])[0]
        return {"verdict": TRACEBACK, "reason": f"{type(fault).__name__}: {reason}"}
    return {"verdict": RIGHT}


def _way(pair: Pair) -> str:
    if pair.packed:
        return "packed"
    return "cached" if continues_from_cache(pair.model) else "rows"


def _scores(pair: Pair) -> None:
    for labels in (tiny_models.ONE_TOKEN, tiny_models.BRANCHING, tiny_models.NESTED):
        _small(score_error(pair, labels), f"scores of {', '.join(labels)}")
    _small(score_error(pair, tiny_models.ONE_TOKEN, labels_only=True), "scores among the labels")


def _gradients(pair: Pair) -> None:
    for loss, labels in (("completion", tiny_models.SEVERAL_TOKENS), ("choice", tiny_models.BRANCHING)):
        error, worst = loss_errors(pair, labels, loss)
        _small(error, f"loss {loss}")
        _small(worst, f"gradients of loss {loss}")


def _generation(pair: Pair) -> None:
    different = generation_differences(pair)
    assert not different, f"{different} texts get another answer than a plain greedy loop gives"


def _export(run_folder: Path, form: str, folder: Path) -> None:
    """Export and prove; compare probabilities, since those of a random model are nearly tied and labels may differ."""
    proof = export_run(run_folder, form, folder, tolerance=1.0)
    allowed = HEAD_TOLERANCE if form in ("classifier", "onnx") else EXPORT_TOLERANCE
    assert proof.largest_difference <= allowed, f"probabilities differ by {proof.largest_difference:.3f}"


def _small(error: float, what: str) -> None:
    assert error <= TOLERANCE, f"{what}: off by {error:.1e}"
