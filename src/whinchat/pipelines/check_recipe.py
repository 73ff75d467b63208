"""Check a recipe and the data that it names, without a model: everything that is wrong at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from whinchat.data.checks import MISSING, answer_counts, rare_answer_warnings, text_key, whitespace_leak_warning
from whinchat.data.dataset import Corpus, Split
from whinchat.data.learned_texts import learned_rows, learned_warning, read_learned
from whinchat.data.packages import PACKAGE_PREFIX, cached_package_file
from whinchat.data.rows import HUB_PREFIX
from whinchat.data.sources import read_corpus
from whinchat.errors import DataError, RecipeError, WhinchatError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.loader import load_recipe, load_section
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Task
from whinchat.training.training_needs import require_trainable

# Rows below which a measured split says next to nothing.
_FEW_ROWS = 50


@dataclass(frozen=True)
class RecipeCheck:
    """What the check of a recipe found.

    Attributes:
        recipe: the recipe; None if it cannot be read.
        errors: faults that keep the recipe from being run, one message each.
        warnings: findings that make a result worse or hard to trust.
        not_checked: what was not looked at, and why.
        summary: how many rows each split has; empty if the data was not read.
        labels: rows of each label by split, with questions of each answer such as ``team: billing``; empty if the data
            was not read.
    """

    recipe: Recipe | None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    summary: str = ""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


def check_recipe(name_or_path: str, overrides: Sequence[str] = (), *, open_data: bool = True) -> RecipeCheck:
    """Check a recipe and open its data; no model is loaded and nothing is downloaded.

    Args:
        name_or_path: name of a shipped recipe, path of a YAML file, or path of a run folder.
        overrides: values to replace, such as ``train.learning_rate=3e-4``.
        open_data: False checks the recipe alone.

    Returns:
        Errors, warnings and what was not checked. The data is checked, too, where only other sections are wrong.
    """
    recipe, errors = None, list[str]()
    try:
        recipe = load_recipe(name_or_path, overrides)
        task, data = recipe.task, recipe.data
    except RecipeError as fault:
        errors += fault.faults
        try:
            task = load_section(name_or_path, "task", Task, overrides)
            data = load_section(name_or_path, "data", DataConfig, overrides)
        except RecipeError:  # among the errors already
            return RecipeCheck(None, tuple(errors), not_checked=("The data was not opened.",))
    warnings = list(_instruction_warnings(task))
    try:
        not_opened = _reason_not_to_open(data) if open_data else "The data was not opened, as --no-data asks."
        if not_opened:
            return RecipeCheck(recipe, tuple(errors), tuple(warnings), (not_opened,))
        corpus = read_corpus(task, data)
    except DataError as fault:
        return RecipeCheck(recipe, (*errors, *fault.faults), tuple(warnings))
    summary = ""
    if recipe is not None:
        errors += _training_errors(recipe, corpus)
        if not errors:
            warnings += _measurement_warnings(recipe, corpus)
            summary = corpus.describe_splits(recipe.evaluate.split)
    warnings += _data_warnings(task, data, corpus)
    splits = filter(None, (corpus.train, corpus.validation, corpus.test))
    labels = {split.name: _counts(split, task) for split in splits}
    return RecipeCheck(recipe, tuple(errors), tuple(warnings), (), summary, labels)


def _reason_not_to_open(data: DataConfig) -> str:
    if data.source.startswith(HUB_PREFIX):
        return f"{data.source} was not opened, since it is on the Hugging Face hub."
    for name in filter(None, (data.source, data.soft_labels)):
        if name.startswith(PACKAGE_PREFIX) and cached_package_file(name) is None:
            return f"{name} was not opened, since it is not downloaded yet; `whinchat run` downloads it."
    return ""


def _instruction_warnings(task: Task) -> Iterator[str]:
    prompt = f"{task.instruction} {task.user_template}".casefold()
    unnamed = [word for word in task.answer_words if " ".join(word.casefold().split()) not in " ".join(prompt.split())]
    if unnamed:
        count = "none" if len(unnamed) == len(task.labels) else f"{len(task.labels) - len(unnamed)}"
        missing = "" if count == "none" else f"; missing: {_listed(unnamed)}"
        yield (
            f"task.instruction names {count} of the {len(task.labels)} labels{missing}. Small models answer better if "
            "it lists the answers that they may give."
        )


def _training_errors(recipe: Recipe, corpus: Corpus) -> Iterator[str]:
    checks = (
        lambda: corpus.split(recipe.evaluate.split),
        lambda: require_trainable(recipe, corpus),
        lambda: read_learned(recipe.backbone.model),
    )
    for check in checks:
        try:
            check()
        except WhinchatError as fault:
            yield from fault.faults


def _measurement_warnings(recipe: Recipe, corpus: Corpus) -> Iterator[str]:
    measured = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    if len(measured) < _FEW_ROWS:
        yield (
            f"The figures of the report will come from {len(measured)} rows of {measured.name}, which say little; add "
            "rows."
        )
    if corpus.validation is None:
        yield "There is no validation split, so the probabilities will not be calibrated; set data.validation_rows."
    model = recipe.backbone.model
    if learned := learned_warning(model, learned_rows(model, corpus.validation, measured)):
        yield learned


def _data_warnings(task: Task, data: DataConfig, corpus: Corpus) -> Iterator[str]:
    for split in filter(None, (corpus.validation, corpus.test)):
        if absent := [label for label, rows in _counts(split, task, missing=False).items() if not rows]:
            yield f"The {split.name} split has no row of {_listed(absent)}, which is not measured there. Add such rows."
    report = corpus.report
    if leaked := [f"{rows} rows of {name}" for name, rows in report.leaked.items() if rows]:
        done = "the training rows with such a text are dropped" if data.drop_leaked else "set data.drop_leaked: true"
        yield f"The texts of {' and '.join(leaked)} also occur in train: {done}."
    if corpus.validation is not None and corpus.test is not None:
        known = {text_key(text, task.clean) for text in corpus.validation.texts}
        if shared := sum(text_key(text, task.clean) in known for text in corpus.test.texts):
            yield f"The texts of {shared} rows of test also occur in validation, on which probabilities are calibrated."
    if report.duplicates_in_train:
        conflicts = report.conflicting_duplicates
        noun = "another answer to a question" if task.questions else "another label"
        another = f", {conflicts} of them with {noun}" if conflicts else ""
        yield f"Training rows that repeat the text of an earlier row: {report.duplicates_in_train}{another}."
    if warning := whitespace_leak_warning(report.doubled_spaces, task.clean):
        yield warning
    yield from rare_answer_warnings(corpus.train, task)


def _counts(split: Split, task: Task, *, missing: bool = True) -> dict[str, int]:
    """Return the rows of each label, or of each answer to each decision."""
    if not task.questions:
        return split.counts(task.labels)
    return {
        f"{title}: {label}": rows
        for title, counts in answer_counts(split, task).items()
        for label, rows in counts.items()
        if missing or label != MISSING
    }


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
