"""Commands that measure: classifiers, labels and methods."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import whinchat
from whinchat.arena.spec import ARENAS, arena_to_yaml
from whinchat.cli.options import (
    ClassifierArg,
    JsonOption,
    RecipeArg,
    RunArg,
    SetOption,
    out_option,
    parse_existing,
    run_folder_name,
    set_option,
)
from whinchat.cli.output import err, print_line, print_result, print_shipped, progress_on_stderr
from whinchat.cli.printing.questions import print_questions_evaluation, print_questions_run
from whinchat.cli.printing.results import print_arena, print_comparison, print_evaluation, print_run
from whinchat.cli.printing.reviews import print_review
from whinchat.errors import RunError
from whinchat.recipe.schema import MetricName
from whinchat.storage.json_records import to_json


def evaluate_command(
    run_folder: ClassifierArg,
    data: Annotated[
        str | None,
        Option("--data", metavar="SOURCE", help="Evaluate on every row of this file, folder or hub data set."),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained classifier again, on its own evaluation split or on other data.

    Of a task with questions, each question is measured on the rows that have an answer to it.

    Examples:

        whinchat evaluate runs/demo

        whinchat evaluate runs/demo --data mine.csv --set data.text_column=body --json
    """
    from whinchat.cli.early_checks import check_evaluation  # loads the hub's client

    with progress_on_stderr():
        check_evaluation(run_folder, data, overrides or ())
        evaluation = whinchat.evaluate_run(run_folder, data, overrides or ())
    print_result(
        as_json,
        evaluation.to_dict(),
        lambda: (
            print_evaluation(evaluation)
            if isinstance(evaluation, whinchat.RunEvaluation)
            else print_questions_evaluation(evaluation)
        ),
    )


def calibrate_command(
    run_folder: RunArg,
    metric: Annotated[
        MetricName | None, Option(help="Metric that the answers maximize.  [default: as in the run]")
    ] = None,
    wanted_accuracy: Annotated[
        float | None,
        Option(
            min=0,
            max=1,
            help='Accuracy to reach by answering "unsure" below a threshold; 0 for never.  [default: as in the run]',
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a finished run again, for another metric or accuracy; nothing is trained.

    Calibration, report and model card are written again. Earlier exports keep the old calibration;
    export again to update them. With questions, metric and accuracy hold for the answers to each of
    them, and for each option of a multi question.

    Examples:

        whinchat calibrate runs/demo --metric macro_recall

        whinchat calibrate runs/demo --wanted-accuracy 0.9
    """
    from whinchat.cli.early_checks import check_calibration  # loads the hub's client

    with progress_on_stderr():
        check_calibration(run_folder, metric, wanted_accuracy)
        record = whinchat.calibrate_run(run_folder, metric, wanted_accuracy)
    if isinstance(record, whinchat.QuestionsRecord):
        print_result(as_json, to_json(record.questions), lambda: print_questions_run(record, run_folder))
    else:
        print_result(as_json, to_json(record.reliability), lambda: print_run(record, run_folder))


def compare_command(
    runs: Annotated[list[Path], Argument(help="Run folders.", metavar="RUN...")],
    out_folder: Annotated[Path, out_option("Folder for the figure.")] = Path("runs/comparison"),
    cards: Annotated[
        bool, Option("--cards/--no-cards", help="Also show the comparison on the card and the report of each run.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs: a table, a test for every two runs on the same rows, and a figure.

    The card and the report of each run then show the comparison, until a later comparison takes its place.

    Example:

        whinchat compare runs/smollm2-lora-tweeteval runs/smollm2-dora-tweeteval
    """
    from whinchat.cli.early_checks import check_comparison  # loads the hub's client

    figures = None if as_json else out_folder
    check_comparison(runs, figures)
    comparison = whinchat.compare_runs(runs, figures, update_cards=cards)
    print_result(as_json, comparison.to_dict(), lambda: print_comparison(comparison, out_folder / "comparison.png"))


def review_command(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: Annotated[Path | None, out_option("Review folder to write to.  [default: runs/NAME-review]")] = None,
    folds: Annotated[int, Option(help="Number of folds. One model is trained for each; 2 or more.")] = 3,
    top: Annotated[int, Option(help="Number of rows to print.", min=0)] = 20,
    resume: Annotated[bool, Option("--resume", help="Continue the review in the folder.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Delete the review in the folder and start again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find training rows whose label, or whose answer to a question, is probably wrong.

    Each fold of the training split is scored by a model that was trained on the other folds. This takes about FOLDS - 1
    times as long as training once.

    Example:

        whinchat review demo --folds 3 --top 50
    """
    # Loads the hub's client.
    from whinchat.cli.early_checks import check_review
    from whinchat.data.sources import reading_once

    loaded = whinchat.load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / f"{run_folder_name(recipe, loaded.name)}-review"
    existing = parse_existing(resume, overwrite)
    with progress_on_stderr(), reading_once():
        finished = check_review(loaded, path, folds, existing)
        review, rows = finished or whinchat.review_run(loaded, path, folds, existing)
    content = {"review": str(path), **to_json(review), "top": [vars(row) for row in rows[:top]]}
    table = whinchat.ReviewFolder(path).table
    print_result(as_json, content, lambda: print_review(review, rows[:top], table))


def arena_command(
    spec: Annotated[
        str | None, Argument(help="A shipped arena, a YAML file, or the folder of an arena.", metavar="SPEC")
    ] = None,
    overrides: Annotated[list[str] | None, set_option("Change a key of the arena's recipe.")] = None,
    out_folder: Annotated[Path | None, out_option("Folder to write to.  [default: runs/arena/NAME]")] = None,
    listing: Annotated[bool, Option("--list", help="List the arenas that come with whinchat.")] = False,
    retry: Annotated[bool, Option("--retry", help="Run failed trials again.")] = False,
    show: Annotated[bool, Option("--show", help="Print the results so far and run nothing.")] = False,
    as_yaml: Annotated[bool, Option("--yaml", help="Print the arena itself, to start your own from it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the quality and the cost of methods on the same rows, for several training set sizes and seeds.

    Each trial (method, size, seed) runs in a process of its own. Finished trials are kept: the same command continues
    an arena that was stopped. Of a task with questions, methods are compared in each question.

    Examples:

        whinchat arena --list

        whinchat arena vader-curve --out runs/arena/vader

        whinchat arena vader-curve --yaml > mine.yaml

        whinchat arena tweeteval-small --set data.source=tweets/ --json
    """
    from whinchat.cli.early_checks import check_arena  # loads the hub's client

    if listing:
        print_shipped(whinchat.list_arenas(), as_json)
        return
    if spec is None:
        raise RunError("arena: no SPEC given; `whinchat arena --list` lists the arenas that come with whinchat")
    if show and retry:
        raise RunError("--show and --retry: exclude each other; choose one")
    loaded = whinchat.load_arena(spec, overrides or ())
    if as_yaml:
        print_line((arena_to_yaml(loaded) if overrides else ARENAS.text(spec)).rstrip())
        return
    folder = out_folder or Path("runs") / "arena" / run_folder_name(spec, loaded.name)

    notify = partial(err.print, soft_wrap=True, markup=False)
    with progress_on_stderr():
        check_arena(loaded, folder, show=show)
        if show:
            results = whinchat.summarize_arena(loaded, folder)
        else:
            results = whinchat.run_arena(loaded, folder, retry=retry, notify=notify)
    print_arena(results, folder, as_json)


COMMANDS = {
    "evaluate": evaluate_command,
    "calibrate": calibrate_command,
    "compare": compare_command,
    "review": review_command,
    "arena": arena_command,
}
