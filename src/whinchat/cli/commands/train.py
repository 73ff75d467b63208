"""Commands that train a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

import whinchat
from whinchat.cli.options import (
    JsonOption,
    OutOption,
    OverwriteOption,
    RecipeArg,
    ResumeOption,
    RunArg,
    SetOption,
    out_option,
    parse_existing,
    run_folder_name,
)
from whinchat.cli.output import err, print_line, print_result, progress_on_stderr
from whinchat.cli.printing.cascade_facts import print_cascade
from whinchat.cli.printing.questions import print_questions_run
from whinchat.cli.printing.results import print_run
from whinchat.cli.printing.tuning import print_tune
from whinchat.evaluation.cascade_results import DEFAULT_AGREEMENT, DEFAULT_DELTA
from whinchat.pipelines.output_folder import finished_record
from whinchat.report.tune_text import conclusion
from whinchat.storage.json_records import to_json
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.tune_folder import DEFAULT_MINUTES, DEFAULT_TRIALS, finished_search, search_limits, search_space


def run_command(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model, measure it before and after, and write adapter, report and model card.

    Everything goes into one run folder, which has the name of the recipe's file, or of the shipped recipe. A run that
    was stopped continues with --resume; a finished one stays as it is.

    Examples:

        whinchat run demo

        whinchat run smollm2-lora-tweeteval --set data.source=tweets/ --set data.train_rows=10000
    """
    loaded = whinchat.load_recipe(recipe, overrides or ())
    folder = out_folder or Path("runs") / run_folder_name(recipe, loaded.name)
    existing = parse_existing(resume, overwrite)
    if (record := finished_record(loaded, folder, existing)) is not None:
        _say_finished(folder)
    else:
        # Loads the hub's client.
        from whinchat.cli.early_checks import check_run
        from whinchat.data.sources import reading_once

        with progress_on_stderr(), reading_once():
            check_run(loaded, folder, existing)
            record = whinchat.run(loaded, folder, existing)
    if isinstance(record, QuestionsRecord):
        questions = {
            "run": str(folder),
            "questions": to_json(record.questions),
            "warnings": list(whinchat.question_warnings(record)),
        }
        print_result(as_json, questions, lambda: print_questions_run(record, folder))
        return
    content = {
        "run": str(folder),
        "answers": to_json(record.shipped),
        "before": to_json(record.before),
        "after": to_json(record.after),
        "baselines": to_json(record.baselines),
        "warnings": list(whinchat.bad_result_warnings(record)),
    }
    print_result(as_json, content, lambda: print_run(record, folder))


def train_command(
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model and save the adapter, without measuring anything.

    `whinchat run RECIPE --out FOLDER --resume` measures and documents the adapter later, without training it again.

    With `accelerate launch`, several processes on one or more machines train together and share each batch.

    Examples:

        whinchat train demo --out runs/quick --set data.train_rows=500

        accelerate launch --multi_gpu --num_processes 2 -m whinchat train demo --out runs/quick
    """
    loaded = whinchat.load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / run_folder_name(recipe, loaded.name)
    existing = parse_existing(resume, overwrite)
    if (record := finished_record(loaded, path, existing)) is not None:
        _say_finished(path)
        steps = record.manifest.train_steps
    else:
        # Loads the hub's client.
        from whinchat.cli.early_checks import check_run
        from whinchat.data.sources import reading_once

        with progress_on_stderr(), reading_once():
            check_run(loaded, path, existing, evaluates=False)
            steps = whinchat.train_run(loaded, path, existing)[1].steps
    adapter = whinchat.RunFolder(path).adapter
    content = {"run": str(path), "adapter": str(adapter), "steps": steps}
    print_result(as_json, content, lambda: print_line(f"Trained {steps} steps; adapter in {adapter}"))


def _say_finished(folder: Path) -> None:
    err.print(f"{folder}: is finished, and stays as it is; --overwrite starts anew", soft_wrap=True, markup=False)


def distill_command(
    run_folder: RunArg,
    unlabelled: Annotated[
        Path | None,
        Option(metavar="TABLE", help="Table of texts like those to be answered later, with or without labels."),
    ] = None,
    agreement: Annotated[
        float, Option(help="Share of the student's answers that must be those of the classifier.")
    ] = DEFAULT_AGREEMENT,
    delta: Annotated[float, Option(help="Probability that the share is lower all the same.")] = DEFAULT_DELTA,
    text_column: Annotated[
        str | None, Option(metavar="NAME", help="Column of TABLE with the texts.  [default: as in the recipe]")
    ] = None,
    remove: Annotated[bool, Option("--remove", help="Remove the student; the model answers every text again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a run a student that answers easy texts a hundred times as fast; the model answers the rest.

    The student learns the classifier's probabilities on the training texts and on the texts of TABLE. It answers a text
    where it is sure enough. An exact test on texts that it did not learn from chooses the confidence that this takes.
    `predict`, `serve`, Ray and Python then use both as one classifier; `predict --no-student` asks the model alone.

    Examples:

        whinchat distill runs/demo --unlabelled tweets.csv

        whinchat distill runs/demo --unlabelled tweets.csv --agreement 0.98

        whinchat distill runs/demo --remove
    """
    # Both load the hub's client.
    from whinchat.cli.early_checks import check_distillation
    from whinchat.data.sources import reading_once

    if remove:
        found = whinchat.remove_student(run_folder)
        said = "Removed the student" if found else "There is no student"
        print_result(as_json, {"removed": found}, lambda: print_line(f"{said}; the model answers every text"))
        return
    with progress_on_stderr(), reading_once():
        check_distillation(run_folder, unlabelled, text_column)
        facts = whinchat.distill_run(run_folder, unlabelled, agreement=agreement, delta=delta, text_column=text_column)
    print_result(as_json, to_json(facts), lambda: print_cascade(facts))


def tune_command(  # noqa: PLR0913, PLR0917  # a command's options are its arguments
    recipe: RecipeArg,
    overrides: SetOption = None,
    out_folder: Annotated[Path | None, out_option("Tune folder to write to.  [default: runs/tune-NAME]")] = None,
    learning_rate: Annotated[
        tuple[float, float] | None,
        Option(
            metavar="LOW HIGH",
            help="Learning rates to search, on a logarithmic scale.  [default: a fifth of the recipe's to five times "
            "the recipe's]",
        ),
    ] = None,
    ranks: Annotated[
        list[int] | None,
        Option(
            metavar="N N ...",
            help="Ranks to choose from; alpha goes along, so that the adapter's scale stays.  [default: half, once and "
            "twice the recipe's]",
        ),
    ] = None,
    epochs: Annotated[
        list[float] | None,
        Option(
            metavar="N N ...", help="Numbers of epochs to choose from.  [default: half, once and twice the recipe's]"
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        Option(help=f"Time of all trials together.  [default: {DEFAULT_MINUTES:g}, or as the resumed search has it]"),
    ] = None,
    trials: Annotated[
        int | None,
        Option(
            help="Most trials, the recipe as it is included.  "
            f"[default: {DEFAULT_TRIALS}, or as the resumed search has it]"
        ),
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the search in the folder.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Delete the search in the folder and start again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for a better learning rate, rank and number of epochs, and write a recipe with the best.

    The first trial is the recipe as it is, so its settings always belong to the ranges. All trials train on the same
    rows and are judged by the log-loss of the same validation rows; no row of a test split is used. Trainings whose
    validation loss promises too little are stopped early. With --resume, a search continues, also with more minutes.
    Needs Optuna: `pip install 'whinchat[tune]'`.

    Examples:

        whinchat tune demo --minutes 120

        whinchat tune mine.yaml --learning-rate 1e-4 3e-3 --ranks 8 16 32 --epochs 1 2 3
    """
    # Loads the hub's client.
    from whinchat.cli.early_checks import check_tune
    from whinchat.data.sources import reading_once

    loaded = whinchat.load_recipe(recipe, overrides or ())
    folder = whinchat.TuneFolder(out_folder or Path("runs") / f"tune-{run_folder_name(recipe, loaded.name)}")
    existing = parse_existing(resume, overwrite)
    space = search_space(loaded, folder, existing, learning_rate=learning_rate, ranks=ranks, epochs=epochs)
    limits = search_limits(folder, existing, minutes, trials)
    if (result := finished_search(loaded, space, folder, existing, limits)) is not None:
        err.print(
            f"{folder.path}: the search is finished; more --minutes or --trials continue it", soft_wrap=True,
            markup=False,
        )  # fmt: skip
    else:
        with progress_on_stderr(), reading_once():
            check_tune(loaded, space, folder, existing)
            result = whinchat.tune_run(
                loaded, folder.path, space, minutes=limits.minutes, trials=limits.trials, existing=existing
            )
    tuned = folder.recipe(result.recipe) if result.winner is not None else None
    content = {
        "tune": str(folder.path),
        "tuned_recipe": None if tuned is None else str(tuned),
        **to_json(result),
        "sentences": list(conclusion(result)),
    }
    print_result(as_json, content, lambda: print_tune(result, tuned, folder.table))


COMMANDS = {"run": run_command, "train": train_command, "tune": tune_command, "distill": distill_command}
