"""Commands that train a model."""

from __future__ import annotations

from pathlib import Path

import whinchat
from whinchat.cli.options import (
    JsonOption,
    OutOption,
    OverwriteOption,
    RecipeArg,
    ResumeOption,
    SetOption,
    parse_existing,
    run_folder_name,
)
from whinchat.cli.output import err, print_line, print_result, progress_on_stderr
from whinchat.cli.printing.questions import print_questions_run
from whinchat.cli.printing.results import print_run
from whinchat.pipelines.output_folder import finished_record
from whinchat.storage.json_records import to_json
from whinchat.storage.questions_record import QuestionsRecord


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


COMMANDS = {"run": run_command, "train": train_command}
