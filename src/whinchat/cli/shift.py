"""``whinchat shift``: what re-estimated label shares would gain on a run's own rows."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from whinchat.cli.output import emit_json, out
from whinchat.publish.folder import RunFolder, write_json
from whinchat.publish.wording import METRICS, count, number, percent, signed
from whinchat.recipe.recipe import Metric


def print_shift(path: Path, metric: Metric | None, seeds: int, folder: Path, as_json: bool) -> None:
    """Study the evaluated rows of the run in ``path``; the record and its figure go to ``folder``."""
    import numpy as np

    from whinchat.evaluation.shift import Figures, study_shift
    from whinchat.publish.figure_shift import write_shift
    from whinchat.publish.predictions import read_predictions

    run = RunFolder(path)
    recipe, rows = run.read_recipe(), read_predictions(run.predictions)
    study = study_shift(
        np.array([one.log_probs for one in rows.after]),
        np.array(rows.expected),
        rows.labels,
        metric or recipe.evaluate.metric,
        recipe.evaluate.split,
        seeds,
    )
    write_json(folder / "shift.json", study.to_dict())
    figure, _ = write_shift(study, folder / "shift.png")
    if as_json:
        emit_json(study.to_dict())
        return
    table = Table(title=Text(f"{study.split}: calibrated answers for {METRICS[study.metric]}, {seeds} draws each"))
    for column in ("label shares", "texts", "accuracy", "macro-F1", "macro-recall", "share error", "trusted"):
        table.add_column(column)

    def cell(plain: Figures, again: Figures, field: str) -> str:
        was, now = getattr(plain, field), getattr(again, field)
        return f"{number(was)} -> {number(now)} ({signed(now - was)})"

    for one in study.scenarios:
        figures = [cell(one.plain, one.reestimated, field) for field in ("accuracy", "macro_f1", "macro_recall")]
        table.add_row(Text(one.name), count(one.texts), *figures, number(one.share_error), percent(one.trusted))
    out.print(table)
    out.print("Before the arrow with the shares of validation, behind it with re-estimated ones.")
    if study.metric == "macro_recall":
        out.print(
            "The decision for macro recall divides the shares out again, so no answer changes with them; "
            "try --metric accuracy or --metric macro_f1.",
            soft_wrap=True,
        )
    if study.skipped:
        out.print(f"Too few rows for: {', '.join(study.skipped)}", soft_wrap=True, markup=False)
    out.print(f"Figure: {figure}", soft_wrap=True, markup=False)
