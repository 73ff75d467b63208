"""Commands that train."""

from __future__ import annotations

from pathlib import Path

from whinchat.cli.options import JsonOption, OutOption, OverwriteOption, RecipeArg, ResumeOption, SetOption, existing
from whinchat.cli.output import emit_json, out, progress_on_stderr
from whinchat.recipe.loader import load_recipe
from whinchat.storage.json_records import to_json


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
    from whinchat.cli.summary import print_run
    from whinchat.pipelines import run as pipeline

    chosen = load_recipe(recipe, overrides or ())
    folder = out_folder or Path("runs") / chosen.name
    with progress_on_stderr():
        record = pipeline.run(chosen, folder, existing(resume, overwrite))
    if as_json:
        emit_json({"run": str(folder), "before": to_json(record.before), "after": to_json(record.after)})
    else:
        print_run(record, folder)


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
    from whinchat.pipelines import run as pipeline

    chosen = load_recipe(recipe, overrides or ())
    path = out_folder or Path("runs") / chosen.name
    with progress_on_stderr():
        folder, training = pipeline.train_run(chosen, path, existing(resume, overwrite))
    if as_json:
        emit_json({"run": str(path), "adapter": str(folder.adapter), "steps": training.steps})
    else:
        out.print(f"Trained {training.steps} steps; adapter in {folder.adapter}", soft_wrap=True, markup=False)


COMMANDS = (run, train)
