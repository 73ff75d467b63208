"""Write the report of a finished run again."""

from pathlib import Path

from whinchat.report.write import write_report_files
from whinchat.storage.run_folder import RunFolder


def rebuild_report(run: str | Path) -> RunFolder:
    """Draw the figures and write the report and the model card of a finished run again, from its stored results.

    Args:
        run: the run folder.

    Returns:
        The run folder, whose ``report`` and ``card`` are the paths of the two files.

    Raises:
        RunError: ``run`` is not a finished run, or one of its files is damaged.
    """
    folder = RunFolder(Path(run))
    write_report_files(folder.read(), folder)
    return folder
