"""The tune folder: the files of a search for settings, finished or interrupted."""

import csv
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from whinchat.errors import RunError
from whinchat.output_files import remove_folder, replace_file, writing
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace
from whinchat.storage.folder_entry import FolderEntry
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.owned_folder import check_owned, hold_swept
from whinchat.storage.tune_record import TuneResult, TuneTrial

DEFAULT_MINUTES, DEFAULT_TRIALS = 60.0, 20
_REMEDY = "continue with --resume, or start again with --overwrite"
_LONGEST_NAME = 190  # characters, which leaves room for what is added


@dataclass(frozen=True)
class TunePlan:
    """The settings and data of a search, with which alone it is resumed, and its limits."""

    recipe: Recipe
    space: SearchSpace
    train_fingerprint: str
    validation_fingerprint: str
    data_revision: str | None
    model_commit: str | None
    minutes: float
    trials: int


@dataclass(frozen=True)
class SearchLimits:
    """How long a search may take: the minutes of all trials together, and the number of trials."""

    minutes: float
    trials: int

    @classmethod
    def checked(cls, minutes: float, trials: int) -> Self:
        """Return the limits.

        Raises:
            RunError: there is no time, or no second trial.
        """
        if not 0 < minutes < math.inf:
            raise RunError(f"--minutes {minutes:g}: must be above 0, and is the time of all trials together")
        if trials < 2:
            raise RunError(f"--trials {trials}: the first trial is the recipe as it is, so give 2 or more")
        return cls(minutes, trials)

    def most_trials(self, space: SearchSpace) -> float:
        """Return the most trials of a search of ``space``, of which none is made twice."""
        return min(self.trials, space.size)


@dataclass(frozen=True)
class TrialFolder:
    """The files of the trial that is being trained; removed when the trial has ended."""

    path: Path

    checkpoints = FolderEntry("checkpoints", "Training checkpoints to resume from.")
    adapter = FolderEntry("adapter", "The trained adapter.")


@dataclass(frozen=True)
class TuneFolder:
    """The files of one search. No other module knows their names."""

    path: Path

    plan = FolderEntry("plan.json", "The plan; written first, so that a folder with a plan is a tune folder.")
    study = FolderEntry("study.journal", "The Optuna study, as the journal of a `JournalFileBackend`.")
    table = FolderEntry("trials.csv", "Every trial: settings, state, log-loss, metric and time.")
    result = FolderEntry("tune.json", "The result so far, for programs; written after each trial.")
    figure = FolderEntry("learning_rate.png", "Log-loss of each trial against its learning rate; also as SVG.")
    trials = FolderEntry("trials", "Checkpoints of the trial that is being trained.")

    def recipe(self, name: str) -> Path:
        """Return the path of the recipe with the best settings, for a recipe called ``name``."""
        return self.path / f"{tuned_name(name)}.yaml"

    def trial(self, number: int) -> TrialFolder:
        """Return the folder of trial ``number``."""
        return TrialFolder(self.trials / str(number))

    def sweep_trials(self, keep: int | None = None) -> None:
        """Remove the folders of all trials, except that of trial ``keep``."""
        if keep is None:
            shutil.rmtree(self.trials, ignore_errors=True)
        for path in self.trials.glob("*"):
            if path.name != str(keep):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for this process alone, and mend first what a process left that was killed.

        Raises:
            RunError: there is a file at its path, or another process writes into the folder.
            OutputError: the folder cannot be written.
        """
        with hold_swept(self.path, _not_a_search(self.path), lambda: self.trials.glob("*")):
            yield

    def open(self, plan: TunePlan) -> None:
        """Store ``plan``.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json_record(self.plan, plan)

    def clear(self) -> None:
        """Delete the files of the search except the plan, which stays until the next one takes its place."""
        with writing(self.path):
            with suppress(RunError):  # a damaged plan, which the next one replaces
                self.recipe(self.read_plan().recipe.name).unlink(missing_ok=True)
            for file in (self.result, self.table, self.figure, self.figure.with_suffix(".svg"), self.study):
                file.unlink(missing_ok=True)
            remove_folder(self.trials)

    def read_plan(self) -> TunePlan:
        """Read the plan. Raises RunError if it is missing, or not as whinchat writes it."""
        return read_json_record(self.plan, TunePlan, _REMEDY)

    def read_result(self) -> TuneResult:
        """Read the result so far. Raises RunError if it is missing, or not as whinchat writes it."""
        return read_json_record(self.result, TuneResult, _REMEDY)

    def write(self, result: TuneResult, recipe_text: str) -> None:
        """Write the table, the recipe with the best settings, and the result, each file atomically.

        Args:
            result: the result so far.
            recipe_text: the recipe as YAML; empty for none.
        """
        columns = ("trial", *asdict(result.trials[0].settings), "state", "log_loss", "raw_log_loss", result.metric)
        columns += ("trained_share", "seconds")

        def write_table(draft: Path) -> None:
            with draft.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(_cells(trial) for trial in result.trials)

        replace_file(self.table, write_table)
        if recipe_text:
            path = self.recipe(result.recipe)
            replace_file(path, lambda draft: draft.write_text(recipe_text, encoding="utf-8"))
        write_json_record(self.result, result)


def _cells(trial: TuneTrial) -> tuple[object, ...]:
    """Return the cells of a trial in the table; an unknown number is an empty cell."""
    measured = (trial.log_loss, trial.raw_log_loss, trial.metric, trial.trained_share)
    return (
        trial.number, *asdict(trial.settings).values(), trial.state,
        *("" if value is None else round(value, 6) for value in measured), round(trial.seconds, 1),
    )  # fmt: skip


def tuned_name(name: str) -> str:
    """Return the name of the recipe with the best settings for a recipe called ``name``."""
    return f"{name[:_LONGEST_NAME]}-tuned"


def require_optuna() -> None:
    """Check that Optuna is installed, without importing it.

    Raises:
        RunError: it is not.
    """
    if find_spec("optuna") is None:
        raise RunError("tune: needs optuna; pip install 'whinchat[tune]'")


def _not_a_search(path: Path) -> RunError:
    return RunError(f"{path}: exists and is no tune folder; name another with --out")


def check_tune_folder(recipe: Recipe, space: SearchSpace, folder: TuneFolder, existing: str) -> None:
    """Check that a search may use ``folder``. Nothing is created or deleted.

    Raises:
        RunError: the folder holds something other than a search, or a search while ``existing`` is "refuse", or a
            search of other settings while ``existing`` is "resume".
    """

    def changes() -> list[str]:
        stored = folder.read_plan()
        changed = conflicting_keys(stored.recipe, recipe)
        if stored.space != space:
            changed.append(f"the ranges ({stored.space.describe()} there, {space.describe()} now)")
        return changed

    check_owned(folder.path, folder.plan, existing, "search", _not_a_search(folder.path), changes)


def search_space(recipe: Recipe, folder: TuneFolder, existing: str, **given: Any) -> SearchSpace:
    """Return the ranges of a search: those of the search that is resumed, where none is given, else around the recipe.

    Args:
        recipe: the recipe as it is.
        folder: the tune folder.
        existing: "refuse", "resume" or "overwrite".
        given: ``learning_rate``, ``ranks`` and ``epochs`` of ``SearchSpace.around``.

    Raises:
        RecipeError: a range is not valid.
        RunError: the plan of the search is damaged.
    """
    if existing == "resume" and folder.plan.is_file() and all(value is None for value in given.values()):
        return folder.read_plan().space
    return SearchSpace.around(recipe, **given)


def search_limits(folder: TuneFolder, existing: str, minutes: float | None, trials: int | None) -> SearchLimits:
    """Return the limits of a search: those given, else those of the search that is resumed, else the defaults.

    Raises:
        RunError: there is no time, or no second trial; or a record of the search is damaged.
    """
    known = DEFAULT_MINUTES, DEFAULT_TRIALS
    if existing == "resume" and folder.plan.is_file():
        plan = folder.read_plan()
        known = plan.minutes, plan.trials
    return SearchLimits.checked(known[0] if minutes is None else minutes, known[1] if trials is None else trials)


def finished_search(
    recipe: Recipe, space: SearchSpace, folder: TuneFolder, existing: str, limits: SearchLimits
) -> TuneResult | None:
    """Return the result in ``folder`` if it is only to be resumed and its limits are reached; else None.

    Raises:
        RunError: as ``check_tune_folder`` and ``read_result``.
    """
    if existing != "resume" or not folder.result.is_file():
        return None
    check_tune_folder(recipe, space, folder, existing)
    result = folder.read_result()
    raised = limits.minutes > result.minutes or limits.trials > result.most_trials
    return result if result.ended and not raised else None
