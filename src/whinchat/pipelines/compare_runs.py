"""Compare finished runs with one another."""

from collections.abc import Sequence
from pathlib import Path

from whinchat.errors import RunError
from whinchat.report.comparison import RunComparison, compare_records
from whinchat.report.figures.run_figures import write_comparison_figure
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_folder import RunFolder


def compare_runs(runs: Sequence[str | Path], out: str | Path | None = None) -> RunComparison:
    """Compare finished runs: their metrics side by side, and a paired test for every two runs on the same rows.

    Args:
        runs: run folders. A run is named after its folder, or by its whole path if two folders share a name.
        out: a folder to write the figure into, as ``comparison.png`` and ``comparison.svg``; None draws no figure.

    Raises:
        RunError: no run is named, a run is named twice, or a run is not finished.
    """
    folders = _folders_by_name([Path(run) for run in runs])
    records = {name: folder.read() for name, folder in folders.items()}
    if len(records) < len(runs):
        raise RunError("compare: the same run is named twice; name each run once")
    predictions = {name: read_predictions(folder.predictions) for name, folder in folders.items()}
    comparison = compare_records(records, predictions)
    if out is not None:
        write_comparison_figure(records, Path(out) / "comparison.png")
    return comparison


def _folders_by_name(paths: Sequence[Path]) -> dict[str, RunFolder]:
    """Return the run folders by their names, or by their whole paths where two folders share a name."""
    names = [path.resolve().name for path in paths]
    pairs = zip(names, paths, strict=True)
    return {str(path) if names.count(name) > 1 else name: RunFolder(path) for name, path in pairs}
