"""What goes to the hub: a run or a classifier as files at the root of a repository, with nothing private in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whinchat.data.packages import PREFIX, catalog_entry
from whinchat.errors import HubError
from whinchat.hub.client import CARD, HUB_ID, RepositoryFile
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.report.card import build_card, hub_model
from whinchat.report.figures.run_figures import run_figures
from whinchat.report.html import render_report
from whinchat.report.short_card import build_short_card
from whinchat.storage.locate import model_files
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord

_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class RepositoryContents:
    """The files of one repository, and how many texts of the data they quote."""

    files: tuple[RepositoryFile, ...]
    quoted: int

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.size for one in self.files)


def repository_of_run(path: Path, repo_id: str, base: str | None = None) -> RepositoryContents:
    """What of the finished run in ``path`` goes to ``repo_id``: adapter, card, report, figures and records.

    The evaluated rows stay, for they may be private. Folders of this machine become their last names.

    Args:
        path: the run folder.
        repo_id: its name on the hub, which the card tells readers to use.
        base: hub id of the base model, where it was a folder.

    Raises:
        RunError: no finished run there.
        HubError: nobody else could have the base model, or the card shows a figure that is missing.
    """
    folder = RunFolder(path)
    stored = folder.read()
    found = hub_model(stored.manifest)
    base = _base(str(path), stored.manifest.model_source, found, base)
    record = _shown(stored, None if found else base)
    card = build_card(record, adapter=repo_id, run=repo_id, base=base).content
    made = {
        CARD: card.encode(),
        folder.manifest.name: json.dumps(record.manifest.to_dict(), indent=2, ensure_ascii=False).encode(),
    }
    if record != stored:
        made[folder.report.name] = render_report(record).encode()
    records = [one for one in folder.told if one.is_file() and one.name not in made]
    figures = sorted(folder.figures.iterdir()) if folder.figures.is_dir() else []
    adapter = {one.name: one for one in model_files(folder.adapter)}
    files = (
        *_adapter(adapter, record.recipe, base),
        *(RepositoryFile(name, content) for name, content in made.items()),
        *(RepositoryFile(one.name, one) for one in records),
        *(RepositoryFile(f"{folder.figures.name}/{one.name}", one) for one in figures),
    )
    _require_figures(record, files, folder)
    examples = record.manifest.data_report.get("examples", ())
    return RepositoryContents(
        files, len(record.samples) + len(examples) + (len(record.trust.errors) if record.trust else 0)
    )


def repository_of_classifier(
    files: Mapping[str, bytes], recipe: Recipe, repo_id: str, base: str | None = None
) -> RepositoryContents:
    """The same for a classifier of which nothing but its adapter's ``files`` is known; its card holds no figures."""
    if _CONFIG not in files:
        raise HubError(f"{repo_id}: this classifier is one merged model; send its folder with `hf upload`")
    source = recipe.backbone.model
    known = catalog_entry(source).hub_id if source.startswith(PREFIX) else source
    if known is not None and (not HUB_ID.fullmatch(known) or Path(known).is_dir()):
        known = None
    base = _base("this classifier", source, known, base)
    recipe = _public(recipe, None if known else base)
    card = build_short_card(recipe, repo_id, base).content
    return RepositoryContents((*_adapter(files, recipe, base), RepositoryFile(CARD, card.encode())), 0)


def _adapter(files: Mapping[str, bytes | Path], recipe: Recipe, base: str) -> Sequence[RepositoryFile]:
    """The adapter's own files, with a base model and a recipe that hold elsewhere."""
    config = RepositoryFile(_CONFIG, files[_CONFIG]).read()
    made = {
        _CONFIG: json.dumps(json.loads(config) | {"base_model_name_or_path": base}, indent=2).encode(),
        "recipe.yaml": recipe_to_yaml(recipe).encode(),
    }
    return [RepositoryFile(name, content) for name, content in {**files, **made}.items()]


def _base(name: str, source: str, known: str | None, given: str | None) -> str:
    """Hub id of the base model."""
    if given is not None and not HUB_ID.fullmatch(given):
        raise HubError(f"{given}: is no name of a base model on the hub; it must read OWNER/NAME")
    if given is not None and known not in {None, given}:
        raise HubError(f"{name}: was trained on {known}, so its base model cannot be {given}")
    if (found := known or given) is None:
        raise HubError(
            f"{name}: was trained on {source}, a folder that nobody else has; if the hub has the same model, name it "
            "with --base OWNER/NAME (base_model in Python)"
        )
    return found


def _shown(record: RunRecord, base: str | None) -> RunRecord:
    """The record as others may read it; ``base`` where the model was a folder."""
    manifest = replace(record.manifest, data_source=_last_name(record.manifest.data_source))
    if base is not None:
        manifest = replace(manifest, model_source=f"a local copy of {base}")
    return replace(record, recipe=_public(record.recipe, base), manifest=manifest)


def _public(recipe: Recipe, base: str | None) -> Recipe:
    data = recipe.data.model_copy(update={"source": _last_name(recipe.data.source)})
    model = recipe.backbone.model if base is None else base
    return recipe.model_copy(update={"data": data, "backbone": recipe.backbone.model_copy(update={"model": model})})


def _last_name(source: str) -> str:
    """``source`` without the folders of this machine, which may hold a user's name."""
    path = Path(source).expanduser()
    return path.name if path.is_absolute() else source


def _require_figures(record: RunRecord, files: Sequence[RepositoryFile], folder: RunFolder) -> None:
    """Check that what the card shows is there."""
    shown = {f"{folder.figures.name}/{plot.name}.png" for plot in run_figures(record)}
    if missing := sorted(shown - {one.path for one in files}):
        raise HubError(
            f"{folder.path / missing[0]}: missing, and the card shows it; "
            f"`whinchat report {folder.path} --rewrite` draws it again"
        )
