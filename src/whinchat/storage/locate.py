"""Find a trained classifier on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whinchat.errors import RunError
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder


@dataclass(frozen=True)
class SavedClassifier:
    """A trained classifier on disk.

    Attributes:
        recipe: its recipe; where the weights are merged, ``backbone`` names them.
        folder: where calibration and weights lie.
        has_adapter: an adapter lies there, and no merged weights.
    """

    recipe: Recipe
    folder: Path
    has_adapter: bool = True


def find_classifier(path: Path) -> SavedClassifier:
    """What is in ``path``: a run, its adapter's folder alone, or a merged model that whinchat exported.

    Raises:
        RunError: none of them, or the run is not finished.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    if (path / "adapter_config.json").is_file():
        return SavedClassifier(recipe, path)
    if (path / "config.json").is_file():
        merged = {"model": str(path), "revision": None}
        return SavedClassifier(
            recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=merged)}), path, has_adapter=False
        )
    if not folder.adapter.is_dir():
        raise RunError(f"{path}: has no adapter/, so this run is not finished; go on with --resume")
    return SavedClassifier(recipe, folder.adapter)


def model_files(folder: Path) -> list[Path]:
    """The files of the adapter or merged model in ``folder``; on the hub, what tells of a run lies beside them."""
    others = {one.name for one in (*RunFolder(folder).public_files, RunFolder(folder).card)}
    files = (one for one in sorted(folder.iterdir()) if one.is_file() and not one.name.startswith("."))
    return [one for one in files if one.name not in others]
