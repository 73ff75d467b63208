"""Everything that is published from a finished run."""

from __future__ import annotations

from pathlib import Path

from whinchat.publish.card import write_card
from whinchat.publish.figures import write_figures
from whinchat.publish.folder import RunFolder
from whinchat.publish.records import RunRecord
from whinchat.publish.report import write_report


def write_all(record: RunRecord, folder: RunFolder) -> tuple[Path, ...]:
    """Write figures, card and report into the run folder; returns the files in that order."""
    return (
        *write_figures(record, folder.figures),
        write_card(record, folder.card),
        write_report(record, folder.report),
    )
