"""What evaluation, calibration and comparison read of finished runs and their data, without loading torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from whinchat.data.dataset import SOFT_SPLIT, Corpus, Split
from whinchat.data.sources import load_corpus, load_labelled, load_split
from whinchat.errors import RecipeError, RunError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord

# Keys that take effect when the calibrator is fitted, not when a run is evaluated.
_CALIBRATION_KEYS = {
    f"evaluate.{key}" for key in ("metric", "wanted_accuracy", "slices", "stress_edits", "stress_rows")
}


def evaluated_rows(path: Path, source: str | None, overrides: Sequence[str]) -> tuple[Recipe, Split]:
    """Return the recipe that an evaluation of the classifier in ``path`` follows, and the rows to evaluate.

    ``source`` and ``overrides`` are those of ``evaluate_run``, as are the errors.
    """
    override_of = {override.partition("=")[0].strip(): override for override in overrides}
    for key, override in override_of.items():
        if not key.startswith(("data.", "evaluate.")):
            raise RecipeError(
                f"--set {override}: an evaluation takes data.* and evaluate.* only; other keys take effect in training"
            )
        if key in _CALIBRATION_KEYS:
            raise RecipeError(
                f"--set {override}: takes effect in calibration; `whinchat calibrate {path}` calibrates the run again"
            )
    folder = RunFolder(path)
    folder.require_whole()
    folder.read_recipe()  # raises RunError, which says what a run folder is, if this is none
    recipe = load_recipe(str(folder.recipe), overrides)
    if source is None:
        split = load_labelled(recipe).split(recipe.evaluate.split)
        if (
            not folder.is_model
            and folder.manifest.is_file()
            and not any(key.startswith("data.") for key in override_of)
        ):
            _require_unchanged(folder, recipe, {split.name: split}, ", or evaluate other rows with --data")
        return recipe, split
    # Columns, limits and label map of the recipe describe the run's own data, so only the overridden ones are kept. The
    # columns of questions stay: there are many, and other tables of the same kind have the same.
    kept = {key.split(".")[1] for key in override_of if key.startswith("data.")}
    if recipe.task.questions:
        text = {"text", "text_column"}
        kept |= {"answers", "answer_map", "delimiter"} | (set() if kept & text else text)
    data = {key: getattr(recipe.data, key) for key in kept}
    rows = recipe.evaluate.rows if "evaluate.rows" in override_of else None
    evaluate_config = recipe.evaluate.model_copy(update={"rows": rows})
    data_config = DataConfig.model_validate(data | {"source": source})
    recipe = recipe.model_copy(update={"data": data_config, "evaluate": evaluate_config})
    return recipe, load_split(recipe)


def calibration_rows(
    folder: RunFolder, metric: MetricName | None, wanted_accuracy: float | None
) -> tuple[RunRecord | QuestionsRecord, Recipe, Corpus, Split]:
    """Return the record of the run in ``folder``, its recipe with the new settings, its data and the evaluated split.

    ``metric`` and ``wanted_accuracy`` are those of ``calibrate_run``, as are the errors.
    """
    folder.require_whole()
    path, record = folder.path, folder.read_record()
    overrides = [f"evaluate.metric={metric}"] if metric else []
    if wanted_accuracy is not None:
        overrides.append(f"evaluate.wanted_accuracy={wanted_accuracy or 'null'}")
    recipe = load_recipe(str(folder.recipe), overrides)
    corpus = load_labelled(recipe)
    if corpus.validation is None:
        raise RunError(f"{path}: has no validation split to calibrate on; run again with data.validation_rows")
    split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    _require_unchanged(folder, recipe, _labelled_parts(corpus))
    return record, recipe, corpus, split


def distillation_data(folder: RunFolder) -> tuple[RunRecord | QuestionsRecord, Recipe, Corpus]:
    """Return the record of the run in ``folder``, its recipe and its data, from which a student learns.

    Raises:
        RunError: ``folder`` holds no finished run, or its data has changed since.
        DataError: the data cannot be read.
    """
    folder.require_whole()
    record, recipe = folder.read_record(), folder.read_recipe()
    corpus = load_corpus(recipe)
    _require_unchanged(folder, recipe, _labelled_parts(corpus) | {SOFT_SPLIT: corpus.soft})
    return record, recipe, corpus


def _labelled_parts(corpus: Corpus) -> dict[str, Split | None]:
    return {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}


def _require_unchanged(
    folder: RunFolder, recipe: Recipe, parts: Mapping[str, Split | None], further_remedy: str = ""
) -> None:
    """Check that splits still have the rows that the finished run in ``folder`` used.

    Args:
        folder: the run.
        recipe: its recipe.
        parts: name -> split as the data give it now.
        further_remedy: what else a user of the command can do; ends the message.

    Raises:
        RunError: a split has other rows.
    """
    stored = folder.read_manifest().splits
    changed = [
        name for name, part in parts.items() if name in stored and _fingerprint(part) != stored[name].fingerprint
    ]
    if changed:
        raise RunError(
            f"{folder.path}: {recipe.data.source}, or how it is divided, has changed since this run was evaluated "
            f"(rows of {', '.join(changed)}), so the classifier may have been trained on rows of these splits; restore "
            f"the earlier data, run again with --overwrite{further_remedy}"
        )


def _fingerprint(part: Split | None) -> str | None:
    return None if part is None else part.fingerprint()


def runs_by_name(runs: Sequence[str | Path]) -> dict[str, RunFolder]:
    """Return the run folders by their names, or by their whole paths where two folders share a name.

    Raises:
        RunError: a run is named twice.
    """
    paths = [Path(run) for run in runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise RunError("compare: the same run is named twice; name each run once")
    names = [path.resolve().name for path in paths]
    pairs = zip(names, paths, strict=True)
    return {str(path) if names.count(name) > 1 else name: RunFolder(path) for name, path in pairs}
