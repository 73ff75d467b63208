"""The commands. Each parses, calls one function, prints; what takes long to import is imported inside."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from whinchat import __version__
from whinchat.cli import recipes
from whinchat.cli.output import emit_json, err, out, progress_on_stderr
from whinchat.errors import WhinchatError
from whinchat.recipe.files import load_recipe
from whinchat.recipe.recipe import Metric
from whinchat.training import processes
from whinchat.use.export import TOLERANCE, Kind

app = typer.Typer(
    help="Turn a small chat model into a text classifier that can be trusted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `whinchat run demo`: it needs no model hub and takes minutes on two cores.",
)
app.add_typer(recipes.app, name="recipes")


RecipeArg = Annotated[
    str,
    typer.Argument(
        help="A shipped recipe, a YAML file, or a run folder.", metavar="RECIPE", autocompletion=recipes.names
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.learning_rate=3e-4. Repeatable."),
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/NAME by default.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is there and start again.")]
PriorsOption = Annotated[
    bool,
    typer.Option(
        "--reestimate-priors",
        help="Also answer under label shares estimated from the texts themselves (100 or more), and say whether to "
        "trust that.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
RunArg = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"whinchat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the libraries log.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    if not verbose:
        # Notes that libraries print for their own developers; --verbose shows them.
        logging.captureWarnings(True)
        for name in ("py.warnings", "transformers", "bitsandbytes", "kernels"):
            logging.getLogger(name).setLevel(logging.ERROR)
    if processes.count() > 1:
        if context.invoked_subcommand != "train":
            raise WhinchatError(
                f"accelerate launch: only `whinchat train` runs in several processes; start `whinchat "
                f"{context.invoked_subcommand}` without it"
            )
        # One voice for all of them.
        if processes.index() > 0:
            out.quiet = True
            os.environ["TQDM_DISABLE"] = "1"


@app.command(rich_help_panel="Train")
def run(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Do everything: evaluate, train, evaluate again, write figures, report and model card.

    Examples:

        whinchat run demo

        whinchat run smollm2-lora-tweeteval --set data.source=tweets/ --set data.train_rows=10000
    """
    from whinchat import run as story
    from whinchat.cli.summary import print_run

    chosen = load_recipe(recipe, overrides or ())
    folder = out_folder or Path("runs") / chosen.name
    with progress_on_stderr():
        record = story.run(chosen, folder, _existing(resume, overwrite))
    if as_json:
        emit_json({"run": str(folder), "before": record.before.to_dict(), "after": record.after.to_dict()})
    else:
        print_run(record, folder)


@app.command(rich_help_panel="Train")
def train(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Only train: leaves the adapter and measures nothing.

    `whinchat run RECIPE --out FOLDER --resume` measures and reports later, without training again.

    Several processes, on one machine or many, train together; the batch is theirs together, too.

    Examples:

        whinchat train demo --out runs/quick --set data.train_rows=500

        accelerate launch --multi_gpu --num_processes 2 -m whinchat train demo --out runs/quick
    """
    from whinchat import run as story

    chosen = load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / chosen.name
    with progress_on_stderr():
        folder, training = story.train_only(chosen, path, _existing(resume, overwrite))
    if as_json:
        emit_json({"run": str(path), "adapter": str(folder.adapter), "steps": training.steps})
    else:
        out.print(f"Trained {training.steps} steps; adapter in {folder.adapter}", soft_wrap=True, markup=False)


@app.command(rich_help_panel="Look")
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
    from whinchat import review as reviewing
    from whinchat.cli.review import print_review

    chosen = load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / f"{chosen.name}-review"
    with progress_on_stderr():
        found, rows = reviewing.review(chosen, path, folds, _existing(resume, overwrite))
    print_review(found, rows[:top], path, as_json)


@app.command(rich_help_panel="Use")
def evaluate(
    run_folder: RunArg,
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


@app.command(rich_help_panel="Use")
def predict(
    run_folder: RunArg,
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


@app.command(rich_help_panel="Use")
def export(
    run_folder: RunArg,
    kind: Annotated[Kind, typer.Option("--to", help="merged, or classifier.", metavar="KIND")],
    goal: Annotated[
        Path | None, typer.Option("--out", "-o", help="The new folder; RUN/export/KIND by default.")
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

    out_folder = goal or run_folder / "export" / kind
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


@app.command(rich_help_panel="Look")
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


@app.command(rich_help_panel="Look")
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


@app.command(rich_help_panel="Look")
def shift(
    run_folder: RunArg,
    metric: Annotated[Metric | None, typer.Option(help="What decisions shall serve; the run's own by default.")] = None,
    seeds: Annotated[int, typer.Option(help="Draws for each set of label shares.", min=1)] = 50,
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for record and figure.")] = Path("runs/shift"),
    as_json: JsonOption = False,
) -> None:
    """Try what --reestimate-priors would gain: thin out a run's evaluated rows to other label shares, many times.

    Example:

        whinchat shift runs/demo --metric accuracy --seeds 200
    """
    from whinchat.cli.shift import print_shift

    print_shift(run_folder, metric, seeds, out_folder, as_json)


@app.command(rich_help_panel="Look")
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


@app.command(rich_help_panel="Look")
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


def _existing(resume: bool, overwrite: bool) -> Any:
    if resume and overwrite:
        raise WhinchatError("--resume and --overwrite: choose one; they ask for opposite things")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


# What typer turns Ctrl-C into.
_INTERRUPTED = 130
_RESUMED = "What is stored is kept: the same command with --resume goes on from there."
# What becomes of the work that Ctrl-C stops, by command; the others keep nothing.
_KEPT = dict.fromkeys(("run", "train", "review"), _RESUMED) | dict.fromkeys(
    ("arena", "predict"), "What is done is kept: the same command goes on from there."
)


def main() -> None:
    """Entry point: exit code 0, 2 for a mistake that can be mended, 130 for Ctrl-C."""
    try:
        app()
    except WhinchatError as fault:
        err.print(f"[bold red]error:[/] {escape(str(fault))}", soft_wrap=True)
        sys.exit(fault.exit_code)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            err.print(f"Stopped. {_KEPT.get(command, '')}".strip())
        raise
