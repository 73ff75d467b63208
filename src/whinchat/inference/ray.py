"""Label the parts of a table in several processes, on one machine or many, through Ray Data."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whinchat import errors
from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import RunError, WhinchatError
from whinchat.inference.prediction_jobs import PartWorker, PredictionJob, predict_part
from whinchat.progress import Progress

if TYPE_CHECKING:
    from whinchat.inference.question_predictor import AnyPredictor


class RayPartWorker:
    """A Ray actor that loads the classifier and opens the table once, then labels the parts it is given.

    Both are loaded with the first part and not when the actor is made, where Ray would wrap an error in its own.
    """

    def __init__(self, run: str, job: PredictionJob, table_format: type[TableFormat]) -> None:
        self._run, self._job, self._table_format = run, job, table_format
        self._loaded: tuple[AnyPredictor, TableFormat] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the parts of ``batch``; return the rows of each, and the class and message of an error."""
        kinds, faults = [], []
        for number, start, rows in zip(batch["number"], batch["start"], batch["rows"], strict=True):
            location = BlockLocation(int(number), tuple(map(int, start)), int(rows))
            try:
                if self._loaded is None:
                    # Loads torch, which the process that checks the tables and distributes the parts does not need.
                    from whinchat.inference.question_predictor import load_predictor

                    path, text = Path(self._job.source), self._job.text
                    table = self._table_format(path, text, escape_formulas=self._job.safe_csv)
                    self._loaded = load_predictor(Path(self._run), student=self._job.student), table
                predictor, table = self._loaded
                predict_part(predictor, self._job, table, location, Progress())
                kind, fault = "", ""
            except WhinchatError as error:
                kind, fault = type(error).__name__, str(error)
            kinds.append(kind)
            faults.append(fault)
        return {"rows": batch["rows"], "kind": kinds, "fault": faults}


def start_ray(**options: Any) -> None:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start a local one; ``options`` go to ``ray.init``."""
    import ray  # an optional extra

    # Ray puts the current folder first on its workers' paths, where any file could stand in for a library.
    with contextlib.chdir(sys.prefix):
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)


def predict_on_ray(run: Path, workers: int | None = None) -> PartWorker:
    """Return a worker that labels parts on the Ray cluster that ``RAY_ADDRESS`` names, or on a local one it starts.

    Every machine must see the same files under the same paths, and have whinchat installed. The content of a part does
    not depend on the process that labels it.

    Args:
        run: folder of the classifier.
        workers: number of processes, each with a model of its own; None for one on each of the cluster's accelerators,
            or on each core where there are none.

    Raises:
        RunError: Ray is not installed. The worker raises the same error where a process of Ray dies.
    """
    if find_spec("ray") is None:
        raise RunError("--engine ray: Ray is not installed; pip install 'whinchat[ray]'")

    def work(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation], bar: Progress) -> None:
        import ray  # an optional extra, and only now are all tables known to be good

        if not ray.is_initialized():
            start_ray()
        ray.data.DataContext.get_current().enable_progress_bars = False
        resources = ray.cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        # Paths are made absolute, since a worker process has another working directory.
        job = replace(job, source=str(Path(job.source).resolve()), out=str(Path(job.out).resolve()))
        parts = ray.data.from_items([asdict(location) for location in locations], override_num_blocks=len(locations))
        done = parts.map_batches(
            RayPartWorker,
            fn_constructor_args=(str(run.resolve()), job, type(table)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers or gpus or cores, len(locations))),
            num_gpus=1 if gpus else None,
            num_cpus=None if gpus else 1,
        )
        try:
            for part in done.iter_rows():
                if part["kind"]:
                    raise getattr(errors, part["kind"])(part["fault"])
                bar.update(part["rows"])
        except ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(
                f"--engine ray: {type(error).__name__}: {reason}; finished parts are kept: the same command continues"
            ) from error

    return work
