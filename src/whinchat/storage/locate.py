"""Find a trained classifier on disk."""

from dataclasses import dataclass
from pathlib import Path

from whinchat.errors import RunError
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder


@dataclass(frozen=True)
class SavedClassifier:
    """A trained classifier on disk.

    Attributes:
        recipe: its recipe. For merged weights, ``recipe.backbone.model`` is ``folder``.
        folder: folder of the weights and of ``calibration.json``.
        has_adapter: whether ``folder`` holds an adapter; False for merged weights.
    """

    recipe: Recipe
    folder: Path
    has_adapter: bool = True


def find_classifier(path: Path) -> SavedClassifier:
    """Find the classifier in a run folder, an adapter folder, or the folder of a merged model that whinchat exported.

    Raises:
        RunError: ``path`` is none of them, or holds an unfinished run.
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
        raise RunError(f"{path}: has no adapter/, so this run is not finished; finish it with --resume")
    return SavedClassifier(recipe, folder.adapter)


def model_files(folder: Path) -> list[Path]:
    """Return the files of the adapter or merged model in ``folder``, without files about a run that lie beside them."""
    run_files = {file.name for file in (*RunFolder(folder).public_files, RunFolder(folder).card)}
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.name not in run_files]
