"""Parts that Ray's workers label: the same bytes as one process, here and on a real cluster on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tables import ROWS
from whinchat.data.formats.jsonl import JsonlFormat
from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import DataError
from whinchat.inference import predict_file
from whinchat.inference.predict_file import predict_in_process, predict_tables
from whinchat.inference.prediction_jobs import PredictionJob, open_job, plan_jobs
from whinchat.inference.ray import RayPartWorker, predict_on_ray, start_ray
from whinchat.progress import Progress


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster started in a folder whose files have the names of modules that the workers import."""
    ray = pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("working")
    for name in ("whinchat", "pandas", "tarfile", "safetensors"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'run')!r}, 'w')\n", encoding="utf-8")
    with contextlib.chdir(folder):
        start_ray(num_cpus=2)
    yield ray
    ray.shutdown()
    assert not (folder / "run").exists(), "a worker ran a file of the current folder"


def batch_of(location: BlockLocation) -> dict[str, Any]:
    """Return a batch of one part, as Ray Data passes it to a worker."""
    return {key: [value] for key, value in asdict(location).items()}


def test_a_worker_writes_the_same_bytes_in_any_order(trained: Path, source: Path, tmp_path: Path) -> None:
    def work(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation], bar: Progress) -> None:
        worker = RayPartWorker(str(trained), job, type(table))
        for location in reversed(locations):
            assert worker(batch_of(location)) == {"rows": [location.rows], "kind": [""], "fault": [""]}

    for out, worker in (("here.csv", predict_in_process(trained)), ("there.csv", work)):
        (counts,) = predict_tables(plan_jobs(trained, source, tmp_path / out, rows_per_part=4), worker).values()
        assert (counts.rows, counts.bad) == (ROWS, 1)
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_worker_returns_its_error(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "fine"}\n{"text": "fine", "label": "mine"}\n', encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(JsonlFormat, "require_unused", lambda *_: None)  # as if the column had come later
        (job,) = plan_jobs(trained, source, tmp_path / "out.jsonl")
        (location,) = job.open_source().locate_blocks(4, lambda seen: None)
    result = RayPartWorker(str(trained), job, JsonlFormat)(batch_of(location))
    assert result["kind"] == ["DataError"]
    assert "in.jsonl:2: has a column 'label' already" in result["fault"][0]


@pytest.mark.slow
def test_the_same_bytes_and_only_what_is_missing(
    ray: Any, trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_tables(plan_jobs(trained, source, tmp_path / "here.csv", rows_per_part=4), predict_in_process(trained))
    monkeypatch.chdir(tmp_path)
    (job,) = plan_jobs(trained, Path("in.csv"), Path("there.csv"), rows_per_part=4)
    # A part that an earlier try left is taken as it is.
    open_job(job, overwrite=False)
    table = job.open_source()
    first = next(iter(table.locate_blocks(4, lambda seen: None)))
    predict_in_process(trained)(job, table, [first], Progress())
    written = job.part(first).stat().st_mtime_ns
    kept: list[int] = []
    finish = predict_file.finish_job
    monkeypatch.setattr(
        predict_file, "finish_job", lambda *a: (kept.append(job.part(first).stat().st_mtime_ns), finish(*a))[1]
    )
    (counts,) = predict_tables([job], predict_on_ray(trained, workers=2)).values()
    assert kept == [written]
    assert (counts.rows, counts.bad) == (ROWS, 1)
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised(
    ray: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JsonlFormat, "require_unused", lambda *_: None)  # here, and not in the workers
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "fine"}\n{"text": "fine", "label": "mine"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"in\.jsonl:2: has a column 'label' already"):
        predict_file.predict_file(trained, source, out, engine="ray")
    assert not out.exists()


def test_workers_without_ray(trained: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--workers: goes with --engine ray"):
        predict_file.predict_file(trained, source, tmp_path / "out.csv", workers=2)
