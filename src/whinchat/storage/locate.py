"""Find a trained classifier on disk."""

import json
from dataclasses import dataclass
from datetime import date
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


def find_classifier(path: Path) -> SavedClassifier:
    """Find the classifier in a run folder, an adapter folder, or the folder of a merged model that whinchat exported.

    Raises:
        RunError: ``path`` is none of them, or holds an unfinished run.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    day = _day_of_earlier_run(folder)
    if (path / "adapter_config.json").is_file():
        return SavedClassifier(recipe, path, day=day)
    if (path / "config.json").is_file():
        merged = {"model": str(path), "revision": None}
        return SavedClassifier(
            recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=merged)}),
            path,
            has_adapter=False,
            day=day,
        )
    if not folder.adapter.is_dir():
        raise RunError(f"{path}: has no adapter/, so this run is not finished; finish it with --resume")
    return SavedClassifier(recipe, folder.adapter, day=day)


def _day_of_earlier_run(folder: RunFolder) -> date | None:
    """Return ``SavedClassifier.day`` from the manifest, if there is one."""
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
        return None if "prompt_date" in manifest else date.fromisoformat(manifest["created"][:10])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def model_files(folder: Path) -> list[Path]:
    """Return the files of the adapter or merged model in ``folder``, without files about a run that lie beside them."""
    run_files = {file.name for file in (*RunFolder(folder).public_files, RunFolder(folder).card)}
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.name not in run_files]
