"""Parts labelled by several processes, on one machine or many, through Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import RunError, WhinchatError
from whinchat.inference.predict_file import PartWorker, PredictionJob, predict_part
from whinchat.inference.predictor import Predictor
from whinchat.progress import SilentProgress


class RayPartWorker:
    """What each worker holds: the classifier, loaded once, and the table."""

    def __init__(self, run: str, job: PredictionJob) -> None:

        self._predictor = Predictor.load(Path(run))
        self._job = job
        self._table = job.table()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the parts of ``batch``; of each its number of rows, and why it could not be done."""
        faults = []
        for number, start, rows in zip(batch["number"], batch["start"], batch["rows"], strict=True):
            place = BlockLocation(int(number), tuple(map(int, start)), int(rows))
            try:
                predict_part(self._predictor, self._job, self._table, place, SilentProgress())
                faults.append("")
            except WhinchatError as fault:
                faults.append(str(fault))
        return {"rows": batch["rows"], "fault": faults}


def predict_on_ray(run: Path, workers: int | None = None) -> PartWorker:
    """On the Ray cluster that ``RAY_ADDRESS`` names, or on one that is started on this machine.

    Every machine must see the same files under the same paths, and have whinchat installed. What a part holds does not
    depend on who labels it.

    Args:
        run: the classifier.
        workers: processes, each with a model of its own; None for one on each of the cluster's accelerators, or cores
            where there are none.

    Raises:
        RunError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise RunError("--engine ray: Ray is not installed; pip install 'whinchat[ray]'") from None

    def work(job: PredictionJob, table: TableFormat, places: Sequence[BlockLocation], bar: Any) -> None:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        have = ray.cluster_resources()
        gpus = int(have.get("GPU", 0))
        most = min(workers or gpus or int(have.get("CPU", 1)), len(places))
        parts = ray.data.from_items([asdict(place) for place in places], override_num_blocks=len(places))
        done = parts.map_batches(
            RayPartWorker,
            fn_constructor_args=(str(run.resolve()), _resolved(job)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=most),
            num_gpus=1 if gpus else None,
            num_cpus=None if gpus else 1,
        )
        for row in done.iter_rows():
            if row["fault"]:
                raise WhinchatError(row["fault"])
            bar.update(row["rows"])

    return work


def _resolved(job: PredictionJob) -> PredictionJob:
    """With whole paths: a worker's own folder is another one."""
    return replace(job, source=str(Path(job.source).resolve()), out=str(Path(job.out).resolve()))
