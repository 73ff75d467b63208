"""Jobs that find their output taken, locked, read-only or damaged."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import DataError, OutputError, RunError
from whinchat.inference.predict_file import predict_file, predict_in_process, predict_tables
from whinchat.inference.prediction_jobs import PredictionJob, open_job, plan_jobs
from whinchat.inference.predictor import Predictor
from whinchat.progress import Progress
from whinchat.storage.locking import lock_output


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test in which a model is loaded."""
    monkeypatch.setattr(Predictor, "load", lambda path: pytest.fail("a model was loaded"))


def make_file(path: Path) -> None:
    path.write_text("mine", encoding="utf-8")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("out", "prepare", "error", "message"),
    [
        ("in.csv/out.csv", None, OutputError, r"out\.csv: cannot be written \(Not a directory\)"),
        (f"{'x' * 250}.csv", None, OutputError, r"cannot be written \(File name too long\)"),
        # The name fits, but not that of the parts beside it.
        (f"{'x' * 246}.csv", None, OutputError, r"\.parts: cannot be written \(File name too long\)"),
        ("/proc/nowhere/out.csv", None, OutputError, r"/proc/nowhere/out\.csv: cannot be written"),
        ("out.csv", ("out.csv.json", Path.mkdir), OutputError, r"out\.csv\.json: cannot be written \(is a folder\)"),
        ("out", ("out/in.csv", lambda path: path.mkdir(parents=True)), OutputError, r"in\.csv: .*\(is a folder\)"),
        ("out.csv", ("out.csv.parts", make_file), OutputError, r"out\.csv\.parts: cannot be written \(File exists\)"),
        ("out.csv", ("out.csv.json", make_file), DataError, r"out\.csv\.json: is there already, and the note"),
        ("out.csv", ("out.csv", make_file), DataError, r"out\.csv: is there already; use --overwrite"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_model_is_loaded(
    trained: Path,
    source: Path,
    tmp_path: Path,
    out: str,
    prepare: tuple[str, Callable[[Path], object]] | None,
    error: type[Exception],
    message: str,
) -> None:
    if prepare is not None:
        name, make = prepare
        make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        predict_file(trained, source, tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("no_model")
def test_the_second_process_is_told_who_labels(trained: Path, source: Path, tmp_path: Path) -> None:
    with (
        lock_output(tmp_path / "out.csv"),
        pytest.raises(RunError, match=rf"out\.csv: another process is writing here \(process {os.getpid()} on "),
    ):
        predict_file(trained, source, tmp_path / "out.csv")


@pytest.mark.usefixtures("no_model")
def test_files_that_are_no_parts_are_not_taken_over(trained: Path, source: Path, tmp_path: Path) -> None:
    make_file(tmp_path / "out.csv.json")
    parts = tmp_path / "out.csv.parts"
    parts.mkdir()
    make_file(parts / "00000000.csv")
    (tmp_path / "out.csv.json").unlink()
    with pytest.raises(DataError, match=r"out\.csv\.parts: holds files, and no job\.json says of which job"):
        predict_file(trained, source, tmp_path / "out.csv")
    assert (parts / "00000000.csv").read_text(encoding="utf-8") == "mine"


def test_damaged_parts_are_labelled_again(trained: Path, source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict_tables(plan_jobs(trained, source, whole, rows_per_part=4), predict_in_process(trained))
    (job,) = plan_jobs(trained, source, out, rows_per_part=4)
    open_job(job, overwrite=False)
    table = job.open_source()
    locations = list(table.locate_blocks(4, lambda _: None))
    predict_in_process(trained)(job, table, locations, Progress())
    assert len(locations) == 6
    assert None not in [job.finished_part(location) for location in locations]
    first, second, third, fourth, fifth, _ = (job.part(location) for location in locations)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-5])  # cut off, as by a power loss
    third.write_bytes(bytes(third.stat().st_size))  # the size was kept, but not the content
    fourth.with_suffix(".json").write_text('{"found": {"rows"', encoding="utf-8")
    note = json.loads(fifth.with_suffix(".json").read_text(encoding="utf-8"))
    fifth.with_suffix(".json").write_text(json.dumps(note["found"]), encoding="utf-8")  # as version 0.1.0 wrote it
    again: list[int] = []

    def work(job: PredictionJob, table: TableFormat, missing: list[BlockLocation], bar: Progress) -> None:
        again.extend(location.number for location in missing)
        predict_in_process(trained)(job, table, missing, bar)

    predict_tables([job], work)
    assert again == [0, 1, 2, 3, 4]
    assert out.read_bytes() == whole.read_bytes()
    assert not job.parts.exists()


def test_parts_that_are_nowhere_to_be_found_are_said(trained: Path, source: Path, tmp_path: Path) -> None:
    """As with Ray on machines that do not share their files."""
    jobs = plan_jobs(trained, source, tmp_path / "out.csv", rows_per_part=4)
    with pytest.raises(RunError, match=r"6 of 6 parts are missing or damaged after the work; every process must see"):
        predict_tables(jobs, lambda *_: None)


def test_a_source_that_grows_meanwhile_is_not_joined(trained: Path, source: Path, tmp_path: Path) -> None:
    def work(*arguments: object) -> None:
        with source.open("a", encoding="utf-8") as file:
            file.write("1,one more\n")
        predict_in_process(trained)(*arguments)

    with pytest.raises(DataError, match=r"in\.csv: was changed while it was labelled"):
        predict_tables(plan_jobs(trained, source, tmp_path / "out.csv"), work)
    assert not (tmp_path / "out.csv").exists()


def test_what_is_written_on_a_full_disk_stays(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = plan_jobs(trained, source, tmp_path / "out.csv", rows_per_part=4)
    table = type(jobs[0].open_source())
    write_part = table.write_part

    def full_at_the_third(self: TableFormat, path: Path, *arguments: object) -> None:
        if len(list(path.parent.glob("0*.csv"))) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_part(self, path, *arguments)

    monkeypatch.setattr(table, "write_part", full_at_the_third)
    with pytest.raises(OutputError, match=r"00000002\.csv: cannot be written \(No space left on device\); free some"):
        predict_tables(jobs, predict_in_process(trained))
    assert sorted(path.name for path in jobs[0].parts.glob("*.csv")) == ["00000000.csv", "00000001.csv"]


def test_overwriting_deletes_the_parts_of_the_other_job_first(trained: Path, source: Path, tmp_path: Path) -> None:
    (other,) = plan_jobs(trained, source, tmp_path / "out.csv", prefix="other_", rows_per_part=4)
    open_job(other, overwrite=False)
    make_file(other.parts / "00000000.csv")
    (job,) = plan_jobs(trained, source, tmp_path / "out.csv", rows_per_part=4)
    open_job(job, overwrite=True)
    assert [path.name for path in job.parts.iterdir()] == ["job.json"]
