"""Commands that use what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whinchat.cli.options import ClassifierArg, JsonOption, PriorsOption, SetOption
from whinchat.cli.output import emit_json, out, progress_on_stderr
from whinchat.errors import WhinchatError
from whinchat.use.export import TOLERANCE, Kind


def evaluate(
    run_folder: ClassifierArg,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SOURCE", help="Measure on every row of this source instead.")
    ] = None,
    overrides: SetOption = None,
    reestimate_priors: PriorsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained run again, on its own split or on other data.

    Examples:

        whinchat evaluate runs/demo

        whinchat evaluate runs/demo --data mine.csv --set data.text_column=body --json
    """
    from whinchat import run as story
    from whinchat.cli.summary import print_evaluation, print_reweighed

    reweighed = None
    with progress_on_stderr():
        if reestimate_priors:
            evaluation, reweighed = story.reestimate_run(run_folder, data, overrides or ())
        else:
            evaluation = story.evaluate_run(run_folder, data, overrides or ())
    if as_json:
        emit_json(evaluation.to_dict() | ({"reestimated_priors": reweighed.to_dict()} if reweighed else {}))
    else:
        print_evaluation(evaluation)
        if reweighed:
            print_reweighed(reweighed)


def predict(
    run_folder: ClassifierArg,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; or with --out one table or folder; or standard input, one text a line."),
    ] = None,
    goal: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the labelled table goes, or the folder of them.", metavar="OUTPUT"),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--text-column", help="Column of the texts; that of the recipe by default.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Goes before the names of the added columns.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete what is at OUTPUT and start again.")] = False,
    reestimate_priors: PriorsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Label texts, or whole tables (CSV, TSV, JSONL, Parquet) of any size.

    Examples:

        whinchat predict runs/demo "what a lovely day" "meh"

        cat tweets.txt | whinchat predict runs/demo --json > labelled.jsonl

        whinchat predict runs/demo tweets.csv --out labelled.csv --text-column body

    With --json each line of the output is one JSON object, in the order of the input. With --reestimate-priors the
    label stays the plain one, `reestimated` stands beside it, and the shares and how far to trust them are told on
    standard error.

    With --out the table comes back with the columns label, unsure, one for each label's probability, and error: every
    row in its place, and what is wrong with those that could not be read. What is done is kept: the same command goes
    on where it was stopped.
    """
    if goal is not None:
        from whinchat.cli.files import print_labelled

        if reestimate_priors:
            raise WhinchatError("--reestimate-priors: takes all texts at once, so it does not go with --out")
        print_labelled(run_folder, texts or (), goal, column, prefix, overwrite=overwrite, as_json=as_json)
        return
    from whinchat.cli.predict import print_predictions

    print_predictions(run_folder, texts, reestimate_priors, as_json)


def export(
    run_folder: ClassifierArg,
    kind: Annotated[Kind, typer.Option("--to", help="merged, or classifier.", metavar="KIND")],
    goal: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new folder; RUN/export/KIND by default, NAME-KIND for a RUN on the hub."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A table of texts to prove it on; the run's validation split by default.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Share of labels that may flip.")] = TOLERANCE,
    as_json: JsonOption = False,
) -> None:
    """Write the classifier in another format, and prove that it answers alike.

    Examples:

        whinchat export runs/demo --to merged

        whinchat export runs/demo --to classifier --out sentiment

    **merged** is one model without an adapter; every command that takes a run takes it, too. **classifier** is for
    `pipeline("text-classification", FOLDER)` and every server of such models: raw text in, labels out, no whinchat.

    What is written is asked for the labels of 500 texts. `proof.json` says how many flip and how far probabilities
    lie apart; where more flip than --tolerance allows, nothing is left.
    """
    from whinchat.use.export.export import export as export_run

    # A folder called as on the hub would be taken for it from then on.
    out_folder = goal or (run_folder / "export" / kind if run_folder.is_dir() else Path(f"{run_folder.name}-{kind}"))
    with progress_on_stderr():
        proof = export_run(run_folder, kind, out_folder, data=data, tolerance=tolerance)
    if as_json:
        emit_json({"out": str(out_folder), **vars(proof)})
    else:
        out.print(
            f"{out_folder}: {proof.flipped} of {proof.texts} labels differ from the classifier's own, probabilities by "
            f"{proof.largest_difference:.4f} at most",
            soft_wrap=True,
            markup=False,
        )
        if proof.not_carried:
            out.print(f"Texts for it must come mended already: {', '.join(proof.not_carried)}", soft_wrap=True)


COMMANDS = (evaluate, predict, export)
