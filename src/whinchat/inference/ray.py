"""Label the parts of a table in several processes, on one machine or many, through Ray Data."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import DataError, RunError, WhinchatError
from whinchat.inference.prediction_jobs import PartWorker, PredictionJob, predict_part
from whinchat.inference.predictor import Predictor
from whinchat.progress import Progress


class RayPartWorker:
    """A Ray actor that loads the classifier and opens the table once, then labels the parts it is given."""

    def __init__(self, run: str, job: PredictionJob, table_format: type[TableFormat]) -> None:
        self._predictor = Predictor.load(Path(run))
        self._job = job
        self._table = table_format(Path(job.source), job.column)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the parts of ``batch``; return the number of rows of each, and its error or an empty string."""
        faults = []
        for number, start, rows in zip(batch["number"], batch["start"], batch["rows"], strict=True):
            location = BlockLocation(int(number), tuple(map(int, start)), int(rows))
            try:
                predict_part(self._predictor, self._job, self._table, location, Progress())
                faults.append("")
            except WhinchatError as fault:
                faults.append(str(fault))
        return {"rows": batch["rows"], "fault": faults}


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
        RunError: Ray is not installed.
    """
    try:
        import ray  # an optional extra
    except ImportError:
        raise RunError("--engine ray: Ray is not installed; pip install 'whinchat[ray]'") from None

    def work(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation], bar: Progress) -> None:
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
        for part in done.iter_rows():
            if part["fault"]:
                raise DataError(part["fault"])
            bar.update(part["rows"])

    return work
