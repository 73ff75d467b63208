"""Write the report of a finished run again."""

from pathlib import Path

from whinchat.report.question_pages import write_question_pages
from whinchat.report.write import write_report_files
from whinchat.storage.folder_update import update_folder
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def rebuild_report(run: str | Path) -> RunFolder:
    """Draw the figures and write the report and the model card of a finished run again, from its stored results.

    Args:
        run: the run folder.

    Returns:
        The run folder, whose ``report`` and ``card`` are the paths of the two files.

    Raises:
        RunError: ``run`` is not a finished run, one of its files is damaged, or another process writes into its folder.
        OutputError: the run folder cannot be written. The earlier report and card are still whole then.
    """
    folder = RunFolder(Path(run))
    with folder.hold_finished(), update_folder(folder.path) as changed:
        record = folder.read_record()
        if isinstance(record, RunRecord):
            write_report_files(record, RunFolder(changed))
        else:
            write_question_pages(record, RunFolder(changed))
    return folder
