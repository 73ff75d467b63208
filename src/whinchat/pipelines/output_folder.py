"""Check and open the folder that a run writes to."""

from pathlib import Path
from typing import Literal

from whinchat.errors import RunError
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder

IfExists = Literal["refuse", "resume", "overwrite"]


def check_run_folder(recipe: Recipe, path: Path, existing: IfExists) -> RunFolder:
    """Return the run folder at ``path`` if a run of ``recipe`` may write to it. Nothing is created or deleted yet.

    Raises:
        RunError: ``path`` holds something that is not a run, a run although ``existing`` is "refuse", or a run of
            another recipe although ``existing`` is "resume".
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{path}: already exists and is not a run folder; choose another with --out")
        return folder
    if existing == "refuse":
        raise RunError(
            f"{path}: already holds a run; continue it with --resume, replace it with --overwrite, or choose another "
            "folder with --out"
        )
    if existing == "resume" and (changed := conflicting_keys(folder.read_recipe(), recipe)):
        raise RunError(
            f"{path}: holds a run of another recipe, so it cannot be resumed with this one; "
            f"different: {', '.join(changed)}; use --overwrite or another --out"
        )
    return folder


def resumed_recipe(recipe: Recipe, folder: RunFolder, existing: IfExists) -> Recipe:
    """Return ``recipe``, with the date of the run in ``folder`` if that run is resumed: prompts state the same date."""
    if existing != "resume" or not folder.recipe.is_file():
        return recipe
    return recipe.dated(folder.read_recipe().task.date)


def open_run_folder(folder: RunFolder, recipe: Recipe, existing: IfExists) -> None:
    """Create the run folder and store ``recipe`` in it; with "overwrite", delete the earlier run first.

    Raises:
        RunError: the folder cannot be created.
    """
    if existing == "overwrite":
        folder.clear()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise RunError(f"{folder.path}: cannot be created ({fault.strerror}); choose another with --out") from None
    folder.write_recipe(recipe)
