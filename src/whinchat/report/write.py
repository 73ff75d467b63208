"""Write everything that a finished run publishes: figures, card, report and sample predictions."""

from pathlib import Path

from whinchat.report.card import build_card
from whinchat.report.figures.run_figures import write_figures
from whinchat.report.html import render_report
from whinchat.report.markdown import markdown_table
from whinchat.report.quoted_texts import omission_sentence, with_quotable_texts
from whinchat.report.tables import samples_table
from whinchat.storage.atomic import write_text
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def write_report_files(record: RunRecord, folder: RunFolder) -> tuple[Path, ...]:
    """Write figures, card, report and sample predictions into the run folder; each file is replaced whole.

    Returns:
        The paths of the figures, the card and the report, in this order.
    """
    samples = with_quotable_texts(record).samples
    body = markdown_table(samples_table(samples)) if samples else omission_sentence(record.recipe) or "Not measured."
    write_text(folder.samples_markdown, f"# Sample predictions\n\n{body}\n")
    return (*write_figures(record, folder.figures), *write_pages(record, folder))


def write_pages(record: RunRecord, folder: RunFolder) -> tuple[Path, Path]:
    """Write card and report into the run folder, without the figures that the card shows; return both paths."""
    write_text(folder.card, str(build_card(record)))
    write_text(folder.report, render_report(record))
    return folder.card, folder.report
