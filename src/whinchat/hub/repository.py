"""Prepare a run or a classifier for the hub: the files of its repository, without anything private in them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whinchat.data.learned_texts import LEARNED_TEXTS
from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry
from whinchat.errors import HubError
from whinchat.hub.client import CARD, HUB_ID, RepositoryFile
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.report.card import build_card
from whinchat.report.figures.question_figures import question_figures
from whinchat.report.figures.run_figures import FigureSpec, run_figures
from whinchat.report.html import render_report
from whinchat.report.question_pages import build_question_card, render_question_report
from whinchat.report.quoted_texts import quotable_manifest, with_quotable_texts
from whinchat.report.short_card import build_short_card
from whinchat.report.titles import hub_model
from whinchat.storage.json_records import to_json
from whinchat.storage.locate import model_files
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import Manifest, RunRecord
from whinchat.storage.student_files import require_student

_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class RepositoryContents:
    """The files of one repository.

    Attributes:
        files: all files, the model card among them.
        quoted_texts: how many texts of the data set the files quote.
    """

    files: tuple[RepositoryFile, ...]
    quoted_texts: int

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(file.size for file in self.files)


def repository_of_run(path: Path, repo_id: str, base: str | None = None) -> RepositoryContents:
    """Return the files with which a finished run is published: adapter, model card, report, figures and records.

    The evaluated rows (``predictions.parquet``) are left out, for they may be private, and so are the quoted texts that
    ``publish.samples`` of the recipe excludes. Absolute paths of this machine are replaced by their last part.

    Args:
        path: the run folder.
        repo_id: the repository's name, OWNER/NAME, which the card tells readers to load.
        base: hub id of the base model; needed if the run loaded it from a local folder.

    Raises:
        RunError: ``path`` is not a finished run, or its student does not fit the classifier.
        HubError: the base model is not on the hub, or a figure that the card shows is missing.
    """
    folder = RunFolder(path)
    # Nobody could load a classifier with a student that is damaged, or imitates the answers of an earlier calibration.
    require_student(folder.adapter)
    if folder.read_recipe().task.questions:
        return _repository_of_questions(folder, repo_id, base)
    stored = folder.read()
    known = hub_model(stored.manifest)
    base = _base_model(str(path), stored.manifest.model_source, known, base)
    record = _public_record(stored, None if known else base)
    card = build_card(record, repository=repo_id, base=base).content
    rewritten = {CARD: card.encode(), folder.manifest.name: _json(record.manifest)}
    if record.samples != stored.samples:
        rewritten[folder.samples.name] = _json(record.samples)
    if record.reliability != stored.reliability:
        rewritten[folder.reliability.name] = _json(record.reliability)
    if record != stored:
        rewritten[folder.report.name] = render_report(record).encode()
    files = _run_files(folder, rewritten, record.recipe, base)
    _require_figures(run_figures(record), files, folder)
    examples = record.manifest.data_report.get("examples", ())
    errors = () if record.reliability is None else record.reliability.errors
    return RepositoryContents(files, len(record.samples) + len(examples) + len(errors))


def _repository_of_questions(folder: RunFolder, repo_id: str, base: str | None) -> RepositoryContents:
    """Return the files of a run with questions: what stands at the top of its folder, and no evidence of decisions.

    The evidence of the decisions holds texts of the data; the metrics of the questions stand in ``questions.json``.
    Arguments and errors are those of ``repository_of_run``.
    """
    stored = folder.read_questions()
    known = hub_model(stored.manifest)
    base = _base_model(str(folder.path), stored.manifest.model_source, known, base)
    replaced = None if known else base
    manifest = _public_manifest(quotable_manifest(stored), replaced)
    record = replace(stored, recipe=_public_recipe(stored.recipe, replaced), manifest=manifest)
    rewritten = {
        CARD: build_question_card(record, repository=repo_id, base=base).content.encode(),
        folder.manifest.name: _json(record.manifest),
        folder.report.name: render_question_report(record, linked=False).encode(),
    }
    files = _run_files(folder, rewritten, record.recipe, base)
    _require_figures(question_figures(record), files, folder)
    return RepositoryContents(files, len(manifest.data_report.get("examples", ())))


def _run_files(
    folder: RunFolder, rewritten: Mapping[str, bytes], recipe: Recipe, base: str
) -> tuple[RepositoryFile, ...]:
    """Return adapter, records and figures of a run; ``rewritten`` are the files whose public content is another."""
    copied = [file for file in folder.public_files if file.is_file() and file.name not in rewritten]
    figures = sorted(folder.figures.iterdir()) if folder.figures.is_dir() else []
    adapter = {file.name: file for file in model_files(folder.adapter)}
    return (
        *_adapter_files(adapter, recipe, base),
        *(RepositoryFile(name, content) for name, content in rewritten.items()),
        *(RepositoryFile(file.name, file) for file in copied),
        *(RepositoryFile(f"{folder.figures.name}/{file.name}", file) for file in figures),
    )


def repository_of_classifier(
    files: Mapping[str, bytes], recipe: Recipe, repo_id: str, base: str | None = None
) -> RepositoryContents:
    """Return the files with which a classifier without an evaluation is published; its card reports no metrics.

    Args:
        files: the adapter's files by name.
        recipe: the recipe that the classifier was trained by.
        repo_id: the repository's name, OWNER/NAME.
        base: hub id of the base model; needed if the recipe names a local folder.

    Raises:
        HubError: ``files`` is a merged model and no adapter, or the base model is not on the hub.
    """
    if _ADAPTER_CONFIG not in files:
        raise HubError(
            f"{repo_id}: this classifier is a merged model without an adapter; upload its folder with `hf upload "
            f"{repo_id} FOLDER --exclude {LEARNED_TEXTS}`; the file left out has a hash of each training text"
        )
    source = recipe.backbone.model
    known = catalog_entry(source).hub_id if source.startswith(PACKAGE_PREFIX) else source
    if known is not None and (not HUB_ID.fullmatch(known) or Path(known).is_dir()):
        known = None
    base = _base_model("this classifier", source, known, base)
    recipe = _public_recipe(recipe, None if known else base)
    card = build_short_card(recipe, repo_id, base).content
    return RepositoryContents((*_adapter_files(files, recipe, base), RepositoryFile(CARD, card.encode())), 0)


def _json(content: Any) -> bytes:
    return json.dumps(to_json(content), indent=2, ensure_ascii=False).encode()


def _adapter_files(files: Mapping[str, bytes | Path], recipe: Recipe, base: str) -> Sequence[RepositoryFile]:
    """The adapter's files; its configuration names ``base``, but no model of more layers; its recipe is public."""
    config = json.loads(RepositoryFile(_ADAPTER_CONFIG, files[_ADAPTER_CONFIG]).read())
    named = "" if recipe.backbone.layers else base
    rewritten = {
        _ADAPTER_CONFIG: json.dumps(config | {"base_model_name_or_path": named}, indent=2).encode(),
        "recipe.yaml": recipe_to_yaml(recipe).encode(),
    }
    return [RepositoryFile(name, content) for name, content in {**files, **rewritten}.items()]


def _base_model(name: str, source: str, known: str | None, base: str | None) -> str:
    """The hub id of the base model: ``known`` from the run's record, or else ``base`` from the user."""
    if base is not None and not HUB_ID.fullmatch(base):
        raise HubError(f"{base}: is not the name of a base model on the hub; write OWNER/NAME")
    if base is not None and known not in {None, base}:
        raise HubError(f"{name}: was trained on {known}, so its base model cannot be {base}; leave the base model out")
    if (hub_id := known or base) is None:
        raise HubError(
            f"{name}: was trained on {source}, a local folder that nobody else has; if the hub has the same model, "
            "name it with --base OWNER/NAME (base_model in Python)"
        )
    return hub_id


def _public_record(record: RunRecord, base: str | None) -> RunRecord:
    """The record without paths of this machine and texts that must not be quoted.

    ``base`` replaces a base model that was a local folder.
    """
    record = with_quotable_texts(record)
    manifest = _public_manifest(record.manifest, base)
    comparison = record.comparison
    if comparison is not None:
        rows = tuple(replace(row, model=_without_folders(row.model)) for row in comparison.comparison.rows)
        comparison = replace(comparison, comparison=replace(comparison.comparison, rows=rows))
    return replace(record, recipe=_public_recipe(record.recipe, base), manifest=manifest, comparison=comparison)


def _public_manifest(manifest: Manifest, base: str | None) -> Manifest:
    manifest = replace(manifest, data_source=_without_folders(manifest.data_source))
    return manifest if base is None else replace(manifest, model_source=f"a local copy of {base}")


def _public_recipe(recipe: Recipe, base: str | None) -> Recipe:
    data = recipe.data.model_copy(update={"source": _without_folders(recipe.data.source)})
    model = recipe.backbone.model if base is None else base
    return recipe.model_copy(update={"data": data, "backbone": recipe.backbone.model_copy(update={"model": model})})


def _without_folders(source: str) -> str:
    """The last part of an absolute path, whose folders may contain a user's name; any other source unchanged."""
    path = Path(source).expanduser()
    return path.name if path.is_absolute() else source


def _require_figures(drawn: Sequence[FigureSpec], files: Sequence[RepositoryFile], folder: RunFolder) -> None:
    """Raise an error if a figure that the card shows is not among ``files``."""
    shown = {f"{folder.figures.name}/{figure.name}.png" for figure in drawn}
    if missing := sorted(shown - {file.path for file in files}):
        raise HubError(
            f"{folder.path / missing[0]}: is missing, and the card shows it; "
            f"draw the figures again with `whinchat report {folder.path} --rewrite`"
        )
