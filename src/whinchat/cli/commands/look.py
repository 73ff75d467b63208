"""Commands that look: at data, at runs, at methods, at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whinchat.cli.options import JsonOption, RecipeArg, RunArg, SetOption, existing
from whinchat.cli.output import emit_json, out, print_table, progress_on_stderr
from whinchat.recipe.loader import load_recipe


def review(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Review folder; runs/NAME-review by default.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Parts of train; each is judged by a model of the others.")] = 3,
    top: Annotated[int, typer.Option(help="Rows to show.", min=0)] = 20,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the review that is there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the review that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for wrong labels: list the training rows that a model trained without them most disagrees with.

    Trains one model for each fold and takes about FOLDS - 1 times as long as training once.

    Example:

        whinchat review demo --folds 3 --top 50
    """
    from whinchat.cli.review import print_review
    from whinchat.pipelines.review_run import review_run

    chosen = load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / f"{chosen.name}-review"
    with progress_on_stderr():
        found, rows = review_run(chosen, path, folds, existing(resume, overwrite))
    print_review(found, rows[:top], path, as_json)


def inspect(
    recipe: RecipeArg,
    overrides: SetOption = None,
    row: Annotated[int, typer.Option(help="Training row to show, from 0.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show one training example token by token: what is supervised, and what is only read.

    Example:

        whinchat inspect demo --row 3
    """
    from whinchat.cli.inspect import print_example

    print_example(load_recipe(recipe, overrides or ()), row, as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")],
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figure.")] = Path("runs/comparison"),
    as_json: JsonOption = False,
) -> None:
    """Set several runs side by side: a table, and a figure with intervals.

    Example:

        whinchat compare runs/smollm2-lora-tweeteval runs/smollm2-dora-tweeteval
    """
    from whinchat.cli.summary import print_comparison

    print_comparison(runs, out_folder, as_json)


def arena(
    spec: Annotated[
        str | None, typer.Argument(help="A shipped arena, a YAML file, or an arena's folder.", metavar="SPEC")
    ] = None,
    overrides: SetOption = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="The arena's folder; runs/arena/NAME by default.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the arenas that come with whinchat.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run the cells that failed once more.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; show what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold methods against each other: the same rows, several sizes and seeds, with what each costs.

    Each cell (method, size, seed) runs in a process of its own. What is done is kept: the same command goes on
    where it was stopped.

    Examples:

        whinchat arena --list

        whinchat arena vader-curve --out runs/arena/vader

        whinchat arena tweeteval-small --set data.source=tweets/ --json
    """
    from whinchat.cli.arena import list_arenas, print_arena

    if listing:
        list_arenas(as_json)
    else:
        print_arena(spec, overrides or (), out_folder, retry=retry, show=show, as_json=as_json)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do: cores, data types, accelerator, 4-bit, memory, which recipes fit.

    Example:

        whinchat doctor --json
    """
    from whinchat.cli.doctor import examine, print_findings

    findings = examine()
    if as_json:
        emit_json(findings.to_dict())
    else:
        print_findings(findings)


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder of the run folders.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs: task, method, macro-F1 before and after, time, size; the newest first.

    What is not finished stands there, too: trained and not measured, or only begun.

    Example:

        whinchat runs --json
    """
    from whinchat.report.run_list import list_runs, runs_table

    found = list_runs(folder)
    if as_json:
        emit_json([vars(one) for one in found])
        return
    print_table(runs_table(found))
    for one in found:
        if one.problem is not None:
            out.print(one.problem, soft_wrap=True, markup=False)
    if not found:
        out.print(f"{folder}: no runs; make one with `whinchat run demo`", soft_wrap=True, markup=False)


def report(
    run_folder: RunArg,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Write figures, card and report anew from the run's records.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a run's report in the browser, and print where it is; with --json it is not opened.

    Examples:

        whinchat report runs/demo

        whinchat report runs/demo --rewrite
    """
    from whinchat.cli.report import open_report

    open_report(run_folder, rewrite=rewrite, as_json=as_json)


COMMANDS = (runs, report, review, inspect, compare, arena, doctor)
