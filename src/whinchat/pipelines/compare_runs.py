"""Compare finished runs with one another."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from whinchat.errors import OutputError
from whinchat.output_files import sweep_drafts
from whinchat.pipelines.stored_runs import runs_by_name
from whinchat.report.comparison import compare_records
from whinchat.report.figures.run_figures import write_comparison_figure
from whinchat.report.published_figures import public_name
from whinchat.report.write import write_pages
from whinchat.storage.folder_update import update_folder
from whinchat.storage.json_records import write_json_record
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_comparison import RunComparison, StoredComparison
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def compare_runs(
    runs: Sequence[str | Path], out: str | Path | None = None, *, update_cards: bool = False
) -> RunComparison:
    """Compare finished runs: their metrics side by side, and a paired test for every two runs on the same rows.

    Args:
        runs: run folders. A run is named after its folder, or by its whole path if two folders share a name.
        out: a folder to write the figure into, as ``comparison.png`` and ``comparison.svg``; None draws no figure.
        update_cards: whether to show the comparison on the card and the report of each run, in place of an earlier one.

    Raises:
        RunError: no run is named, a run is named twice, a run is not finished, or another process writes into it.
        OutputError: the figure or a card cannot be written.
    """
    folders = runs_by_name(runs)
    with ExitStack() as held:
        update_cards = update_cards and len(runs) > 1
        if update_cards:
            held.enter_context(_named_remedy())
            for folder in folders.values():
                held.enter_context(folder.hold_finished())
        return _compare(folders, None if out is None else Path(out), update_cards=update_cards)


def _compare(folders: Mapping[str, RunFolder], out: Path | None, *, update_cards: bool) -> RunComparison:
    """Compare the runs in ``folders``, which this process holds if the cards are to be updated."""
    records = {name: folder.read() for name, folder in folders.items()}
    predictions = {name: read_predictions(folder.predictions) for name, folder in folders.items()}
    comparison = compare_records(records, predictions)
    if out is not None:
        sweep_drafts(out)
        write_comparison_figure(records, out / "comparison.png")
    if update_cards:
        # Cards are for others, who should not see the whole path of a folder.
        names = _numbered([public_name(records[name], folder.path.resolve().name) for name, folder in folders.items()])
        public = comparison
        if names != [*folders]:
            public = compare_records(
                dict(zip(names, records.values(), strict=True)), dict(zip(names, predictions.values(), strict=True))
            )
        for name, folder, record in zip(names, folders.values(), records.values(), strict=True):
            _update_card(folder, replace(record, comparison=StoredComparison(name, public)))
    return comparison


def _update_card(folder: RunFolder, record: RunRecord) -> None:
    """Store the comparison of ``record``, and write card and report of the run again, all three together."""
    with update_folder(folder.path) as changed:
        new = RunFolder(changed)
        write_json_record(new.comparison, record.comparison)
        write_pages(record, new)


@contextmanager
def _named_remedy() -> Iterator[None]:
    """Add to an error about a card that cannot be written that none need be."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}, or compare with --no-cards") from None


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, the second and later of equal ones with a number."""
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, counts, strict=True)]
