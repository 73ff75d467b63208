"""The files that are written into a run folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import HOSTILE, run_record
from whinchat.report.write import write_report_files
from whinchat.storage.run_folder import RunFolder


def test_everything_is_published_into_the_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    files = write_report_files(run_record(), folder)
    assert files[-2:] == (folder.card, folder.report)
    card = folder.card.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((figures/[^)]+)\)", card)
    assert len(linked) == 6
    assert all((folder.path / name).is_file() for name in linked)
    assert not any(path.name.startswith(".") for path in folder.path.rglob("*")), "no draft is left"


def test_samples_are_also_written_for_people(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with draw_no_figures():
        write_report_files(run_record(text=HOSTILE), folder)
    assert "&lt;script&gt;" in folder.samples_markdown.read_text(encoding="utf-8")
    with draw_no_figures():
        write_report_files(replace(run_record(), samples=()), folder)
    assert "Not measured." in folder.samples_markdown.read_text(encoding="utf-8")
