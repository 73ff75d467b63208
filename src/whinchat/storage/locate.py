"""Find a trained classifier on disk."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from whinchat.checksums import check_files
from whinchat.errors import RunError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.cascade_results import CASCADE_FILES
from whinchat.recipe.schema import Recipe
from whinchat.storage.folder_update import finish_update
from whinchat.storage.run_folder import RunFolder


@dataclass(frozen=True)
class SavedClassifier:
    """A trained classifier on disk.

    Attributes:
        recipe: its recipe. For merged weights, ``recipe.backbone.model`` is ``folder``.
        folder: folder of the weights and of ``calibration.json``.
        has_adapter: whether ``folder`` holds an adapter; False for merged weights.
        day: for a run of a version that did not store which date its prompts stated, the day on which it was finished,
            which is most likely that date; None for any other classifier.
    """

    recipe: Recipe
    folder: Path
    has_adapter: bool = True
    day: date | None = None

    def chat_template(self) -> str | None:
        """Return the chat template that was saved with the weights; None where there is none."""
        if (file := self.folder / "chat_template.jinja").is_file():
            return file.read_text(encoding="utf-8")
        # Where transformers before release 5 saved the template.
        config = self.folder / "tokenizer_config.json"
        stored = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
        return stored if isinstance(stored, str) else None


def find_classifier(path: Path, *, to_answer: bool = True, with_questions: bool = False) -> SavedClassifier:
    """Find the classifier in a run folder, an adapter folder, or the folder of a merged model that whinchat exported.

    Args:
        path: the folder.
        to_answer: whether the classifier is to give answers, for which its run must be finished and its calibration
            be there. Without, a run in the midst of its work, or one that is to be calibrated again, has a classifier
            as soon as it has an adapter.
        with_questions: whether the caller can answer the questions of a task that has several.

    Raises:
        RunError: ``path`` is none of them, holds an unfinished run or the evidence of one decision, a file of the
            classifier is lost or damaged, or its task asks questions and the caller takes labels only.
    """
    if RunFolder(path.parent).adapter == path:
        finish_update(path.parent)
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    if recipe.task.questions and not with_questions:
        raise RunError(
            f"{path}: answers questions ({', '.join(recipe.task.questions)}), which this command does not take; "
            "`whinchat predict` and `whinchat serve` do"
        )
    day = _day_of_earlier_run(folder)
    weights = path if folder.is_model else folder.adapter
    if not weights.is_dir():
        folder.require_whole()
        raise RunError(f"{path}: has no adapter/, so this run is not finished; finish it with --resume")
    if to_answer and not folder.is_model and not folder.manifest.is_file():
        raise RunError(
            f"{path}: this run is not finished, so its answers are not calibrated and nothing is known of their "
            f"quality; finish it with `whinchat run {folder.recipe} --out {path} --resume`, or name {weights} to use "
            "it as it is"
        )
    run = path if weights != path else "RUN"
    remedies = {CALIBRATION_FILE: f"`whinchat calibrate {run}` writes a new one"}
    # The files of a student are checked where a student is to answer.
    check_files(weights, remedies, without=CASCADE_FILES if to_answer else (*remedies, *CASCADE_FILES))
    # A run of version 0.1 has no checksums, but a reliability report only with a calibration.
    if to_answer and folder.reliability.is_file() and not (weights / CALIBRATION_FILE).is_file():
        raise RunError(
            f"{weights / CALIBRATION_FILE}: missing, although this run was calibrated; `whinchat calibrate {path}` "
            "writes a new one"
        )
    if not folder.is_model or (path / "adapter_config.json").is_file():
        return SavedClassifier(recipe, weights, day=day)
    merged = {"model": str(path), "revision": None, "layers": None}
    recipe = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=merged)})
    return SavedClassifier(recipe, path, has_adapter=False, day=day)


def _day_of_earlier_run(folder: RunFolder) -> date | None:
    """Return ``SavedClassifier.day`` from the manifest, if there is one."""
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
        return None if "prompt_date" in manifest else date.fromisoformat(manifest["created"][:10])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def model_files(folder: Path) -> list[Path]:
    """Return the files of the adapter or merged model in ``folder``, without files about a run that lie beside them."""
    run = RunFolder(folder)
    run_files = {file.name for file in (*run.public_files, run.card, run.learned)}
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.name not in run_files]
