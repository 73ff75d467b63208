"""Search for the learning rate, the rank and the number of epochs with which a recipe trains the best classifier."""

from pathlib import Path

from whinchat.pipelines.output_folder import IfExists
from whinchat.recipe.loader import without_home
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace
from whinchat.storage.tune_folder import (
    TuneFolder,
    check_tune_folder,
    finished_search,
    require_optuna,
    search_limits,
    search_space,
)
from whinchat.storage.tune_record import TuneResult


def tune_run(
    recipe: Recipe,
    path: str | Path,
    space: SearchSpace | None = None,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    existing: IfExists = "refuse",
) -> TuneResult:
    """Search for the settings that give the lowest log-loss on the validation rows, beginning with the recipe as it is.

    Each trial trains on the same rows with the same seed, and is judged on the same validation rows. No row of a test
    split is used. The folder then holds a recipe with the best settings, a table of the trials, and a figure.

    Args:
        recipe: data, model and training settings.
        path: the tune folder to write to.
        space: the ranges to search; None for those of the search that is resumed, or ``SearchSpace.around(recipe)``.
        minutes: how long the trials may take together, those of an earlier process included; None for 60, or the
            minutes of the search that is resumed. A trial begins only if it is expected to end in time.
        trials: the most trials, the recipe as it is included; None for 20, or those of the search that is resumed.
        existing: what to do if ``path`` already holds a search: "refuse" raises an error, "resume" continues the
            search, with more minutes or trials if there are more now, and "overwrite" replaces it. The result of a
            finished search is returned without a look at data and model.

    Returns:
        The trials, and which of them is best.

    Raises:
        RunError: Optuna is not installed, a limit is too small, the tune folder may not be used, or model or data have
            changed since the search began.
        OutputError: the tune folder cannot be written.
        WhinchatError: the recipe cannot be run, as in ``run``.
    """
    require_optuna()
    recipe, folder = without_home(recipe), TuneFolder(Path(path))
    limits = search_limits(folder, existing, minutes, trials)
    space = space or search_space(recipe, folder, existing)
    # Nothing is written for a search that is finished, so its folder need not be held.
    if (done := finished_search(recipe, space, folder, existing, limits)) is not None:
        return done
    from whinchat.pipelines.tune_search import search_settings  # needs the extra whinchat[tune]

    with folder.hold():
        check_tune_folder(recipe, space, folder, existing)
        return search_settings(recipe, space, folder, limits, existing)
