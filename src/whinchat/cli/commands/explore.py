"""Commands that show runs, reports, training examples and this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import whinchat
from whinchat.cli.options import JsonOption, RecipeArg, RunArg, SetOption
from whinchat.cli.output import emit_json, print_line, print_result
from whinchat.cli.printing.inspection import (
    print_example,
    print_machine,
    print_model,
    print_probe,
    print_questions,
    print_runs,
)


def runs_command(
    folder: Annotated[Path, Argument(help="Folder that holds the run folders.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder with their macro-F1 before and after training, the newest first.

    Unfinished runs are listed with their state: begun or trained.

    Example:

        whinchat runs --json
    """
    runs = whinchat.list_runs(folder)
    print_result(as_json, [vars(run) for run in runs], lambda: print_runs(runs, folder))


def report_command(
    run_folder: RunArg,
    rewrite: Annotated[
        bool, Option("--rewrite", help="Write figures, report and model card again from the stored results.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Open the report of a run in the browser, and print its path.

    With --json, or on a machine without a screen, the report is not opened.

    Examples:

        whinchat report runs/demo

        whinchat report runs/demo --rewrite
    """
    folder = whinchat.RunFolder(run_folder)
    if rewrite or not folder.report.is_file():
        folder.read_record()  # an unfinished run is refused before matplotlib is loaded
        whinchat.rebuild_report(run_folder)
    if as_json:
        emit_json({"report": str(folder.report), "card": str(folder.card)})
        return
    is_open = _has_screen() and webbrowser.open(folder.report.resolve().as_uri())
    print_line(f"{'Opened' if is_open else 'Report:'} {folder.report}")


def inspect_command(
    recipe: RecipeArg,
    overrides: SetOption = None,
    row: Annotated[int, Option(help="Index of the training row to show, from 0.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show a training example token by token: what the model reads, and what it is trained to answer.

    For a recipe with questions: how many rows answer what, and the prompt of each question about the example.

    Example:

        whinchat inspect demo --row 3
    """
    # Loads the hub's client.
    from whinchat.cli.early_checks import check_example
    from whinchat.data.sources import reading_once

    loaded = whinchat.load_recipe(recipe, overrides or ())
    with reading_once():
        check_example(loaded, row)
        if loaded.task.questions:
            questions = whinchat.inspect_questions(loaded, row)
            print_result(as_json, questions.to_dict(), lambda: print_questions(questions))
            return
        example = whinchat.inspect_example(loaded, row)
    print_result(as_json, example.to_dict(), lambda: print_example(example))


def layers_command(
    recipe: RecipeArg,
    overrides: SetOption = None,
    rows: Annotated[int, Option(help="Number of training texts to read.", min=20)] = 400,
    as_json: JsonOption = False,
) -> None:
    """Show how many layers of the model the task needs, before anything is trained.

    A linear classifier is fitted on what each layer of the untrained model computes for a few hundred texts, and judged
    by cross-validation. Fewer layers train and answer faster, with less memory. The proof of a depth is a run with
    backbone.layers.

    Example:

        whinchat layers demo
    """
    # Loads the hub's client.
    from whinchat.cli.early_checks import check_example
    from whinchat.data.sources import reading_once

    loaded = whinchat.load_recipe(recipe, overrides or ())
    with reading_once():
        check_example(loaded, 0)
        probe = whinchat.probe_layers(loaded, rows)
    print_result(as_json, probe.to_dict(), lambda: print_probe(probe, recipe))


def doctor_command(
    model: Annotated[
        str | None,
        Argument(help="A model (OWNER/NAME on the hub, a folder, package:NAME) to examine instead of the machine."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what this machine can do, which recipes fit into its memory, or how whinchat works with a model.

    Of a model on the hub only the configuration and the tokenizer are downloaded.

    Examples:

        whinchat doctor

        whinchat doctor Qwen/Qwen3-0.6B
    """
    from whinchat.cli.early_checks import check_model  # loads the hub's client

    if model is not None:
        check_model(model)
        examined = whinchat.inspect_model(model)
        print_result(as_json, examined.to_dict(), lambda: print_model(examined))
        return
    report = whinchat.inspect_machine()
    print_result(as_json, report.to_dict(), lambda: print_machine(report))


def _has_screen() -> bool:
    """Return whether a browser can show pictures; without a screen, Python would open one inside the terminal."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


COMMANDS = {
    "runs": runs_command,
    "report": report_command,
    "inspect": inspect_command,
    "layers": layers_command,
    "doctor": doctor_command,
}
