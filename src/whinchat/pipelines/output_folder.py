"""Check and open the folder that a run writes to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from whinchat.data.dataset import Corpus
from whinchat.data.learned_texts import learned_after, write_learned
from whinchat.errors import RunError
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import write_text
from whinchat.storage.locking import holds_files
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord

IfExists = Literal["refuse", "resume", "overwrite"]


@contextmanager
def hold_run_folder(folder: RunFolder) -> Iterator[None]:
    """Hold the folder of a run that may be new; see ``RunFolder.hold``.

    Raises:
        RunError: there is a file at its path, or another process writes into the folder.
        OutputError: the folder cannot be written.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise _not_a_run(folder.path)
    with folder.hold():
        yield


def _not_a_run(path: Path) -> RunError:
    return RunError(f"{path}: already exists and is not a run folder; choose another with --out")


def check_run_folder(recipe: Recipe, path: Path, existing: IfExists) -> RunFolder:
    """Return the run folder at ``path`` if a run of ``recipe`` may write to it. Nothing is created or deleted yet.

    Raises:
        RunError: ``path`` holds something that is not a run, a run although ``existing`` is "refuse", or a run of
            another recipe although ``existing`` is "resume".
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        if path.exists() and (not path.is_dir() or holds_files(path)):
            raise _not_a_run(path)
        return folder
    if existing == "refuse":
        raise RunError(
            f"{path}: already holds a run; continue it with --resume, replace it with --overwrite, or choose another "
            "folder with --out"
        )
    if existing == "resume" and (changed := conflicting_keys(folder.read_recipe(), recipe)):
        raise RunError(
            f"{path}: holds a run of another recipe, so it cannot be resumed with this one; "
            f"different: {', '.join(changed)}; repeat the earlier ones, or use another --out or --overwrite"
        )
    return folder


def finished_record(recipe: Recipe, path: Path, existing: IfExists) -> RunRecord | QuestionsRecord | None:
    """Return the record of the run at ``path`` if it is finished and only to be resumed, else None.

    Nothing is written, so the folder need not be held. Files that a killed process has left there are for the process
    that holds the folder to delete, so a folder with such files counts as not finished.

    Raises:
        RunError: the run is one of another recipe, or one of its files is damaged.
    """
    folder = RunFolder(path)
    if existing != "resume" or not folder.manifest.is_file() or folder.has_leftovers:
        return None
    return check_run_folder(recipe, path, existing).read_record()


def resumed_recipe(recipe: Recipe, folder: RunFolder, existing: IfExists) -> Recipe:
    """Return ``recipe``, with the date of the run in ``folder`` if that run is resumed: prompts state the same date."""
    if existing != "resume" or not folder.recipe.is_file():
        return recipe
    return recipe.dated(folder.read_recipe().task.date)


def open_run_folder(folder: RunFolder, recipe: Recipe, corpus: Corpus, existing: IfExists) -> None:
    """Store the recipe and what the training rows are in the run folder; "overwrite" deletes the earlier run first.

    Raises:
        RunError: the run is to be resumed, and its training rows have changed.
        DataError: the file with the texts that the model has learned is damaged.
        OutputError: the folder cannot be written.
    """
    rows = corpus.trained.fingerprint()
    if existing == "overwrite":
        folder.clear()
    elif folder.training_rows.is_file() and folder.training_rows.read_text(encoding="utf-8").strip() != rows:
        raise RunError(
            f"{folder.path}: the training rows of {corpus.source} have changed since this run began; restore them, or "
            "start anew with --overwrite"
        )
    folder.write_recipe(recipe)
    if not folder.training_rows.is_file() and (learned := learned_after(recipe.backbone.model, corpus)) is not None:
        write_learned(folder.path, learned)
    write_text(folder.training_rows, f"{rows}\n")
