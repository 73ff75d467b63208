"""The trials of a search for settings, one after the other.

Trials are stored as they end, so a search that was killed resumes within its trial.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from whinchat.errors import RunError
from whinchat.evaluation.results import Interval
from whinchat.evaluation.validation_score import paired_gain_of_losses
from whinchat.pipelines.output_folder import IfExists
from whinchat.pipelines.tune_data import TuneData, load_tune_data, log_warnings
from whinchat.pipelines.tune_study import TuneStudy
from whinchat.pipelines.tune_trial import Prepared, TuneCost, evaluations, free_memory, make_trial, measure_trial_cost
from whinchat.progress import logger, stage, whole_duration
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace, TrialSettings, trial_recipe
from whinchat.report.figures.tune_figure import tune_figure
from whinchat.report.tune_text import trial_sentence, tuned_recipe_yaml
from whinchat.storage.tune_folder import SearchLimits, TuneFolder, TunePlan
from whinchat.storage.tune_record import TuneResult, TuneTrial, best_trial
from whinchat.training.prepare import prepare_training


@dataclass(frozen=True)
class _Search:
    """A search in a folder that this process holds.

    Attributes:
        given: the recipe as it is.
        recipe: the same, with the date of the search in its prompts.
        space, folder, limits: as for ``search_settings``.
        data: the rows.
        study: the trials.
    """

    given: Recipe
    recipe: Recipe
    space: SearchSpace
    folder: TuneFolder
    limits: SearchLimits
    data: TuneData
    study: TuneStudy


def search_settings(
    recipe: Recipe, space: SearchSpace, folder: TuneFolder, limits: SearchLimits, existing: IfExists
) -> TuneResult:
    """Make trials until a limit of the search is reached; see ``tune_run``.

    Args:
        recipe: the recipe as it is.
        space: the ranges.
        folder: the tune folder, which this process holds.
        limits: the most minutes and trials.
        existing: "overwrite" to delete an earlier search.
    """
    search, cost, prepared = _begin(recipe, space, folder, limits, existing)
    study, most = search.study, limits.most_trials(space)
    _announce(search, cost)
    while len(study.trials()) < most:
        asked = study.ask(_time_left(search, cost))
        if asked is None:
            logger.info("No further trial would end within %g minutes", limits.minutes)
            break
        folder.sweep_trials(keep=asked.number)
        with stage(f"Trial {asked.number} of at most {most:g}: {asked.settings.describe()}"):
            trial, row_losses = make_trial(search.recipe, search.data, asked, folder.trial(asked.number), prepared)
        study.finish(asked, trial, row_losses)
        # An adapter changes the model that it is attached to, so every further trial loads the model anew.
        prepared = None
        free_memory()
        result = _result(search, ended=False)
        _write(search, result)
        _say(result, trial)
    folder.sweep_trials()
    result = _result(search, ended=True)
    # The figure comes before the result that says that the search has ended, so a killed search draws it again.
    tune_figure(folder.figure.stem, result).write(folder.path)
    _write(search, result)
    return result


def _begin(
    recipe: Recipe, space: SearchSpace, folder: TuneFolder, limits: SearchLimits, existing: IfExists
) -> tuple[_Search, TuneCost, Prepared | None]:
    """Read the data, load the model, measure what trials cost, and open the study; arguments as above."""
    data = load_tune_data(recipe)
    logger.info(data.describe())
    log_warnings(data)
    given, plan = recipe, folder.read_plan() if existing != "overwrite" and folder.plan.is_file() else None
    if plan is not None:
        recipe = recipe.dated(plan.recipe.task.date)
        _require_same_data(plan, data, folder)
    # Prepared before anything is written or deleted, so that an error in the recipe loses nothing.
    started = time.perf_counter()
    with stage("Load the model"):
        prepared = prepare_training(trial_recipe(recipe, TrialSettings.of(recipe)), data.corpus)
    load_seconds = time.perf_counter() - started
    recipe = recipe.with_date(prepared[1].task.date)
    commit = prepared[0].source.commit
    if plan is None:
        fingerprints = data.corpus.trained.fingerprint(), data.validation.fingerprint()
        if existing == "overwrite":
            folder.clear()
        folder.open(TunePlan(recipe, space, *fingerprints, data.corpus.revision, commit, limits.minutes, limits.trials))
    elif plan.model_commit != commit:
        raise RunError(f"{folder.path}: {recipe.backbone.model} has changed since the search began; use --overwrite")
    else:
        # A search that is killed before its next trial ends keeps the new limits.
        folder.open(replace(plan, minutes=limits.minutes, trials=limits.trials))
    cost = measure_trial_cost(recipe, space, data.corpus, prepared, load_seconds)
    own = trial_recipe(recipe, TrialSettings.of(recipe))
    study = TuneStudy(folder.study, recipe, space, evaluations(own, len(data.corpus.trained)))
    return _Search(given, recipe, space, folder, limits, data, study), cost, prepared


def _require_same_data(plan: TunePlan, data: TuneData, folder: TuneFolder) -> None:
    known = plan.train_fingerprint, plan.validation_fingerprint
    if known != (data.corpus.trained.fingerprint(), data.validation.fingerprint()):
        raise RunError(f"{folder.path}: {data.corpus.source} has changed since the search began; use --overwrite")


def _announce(search: _Search, cost: TuneCost) -> None:
    """Log what the search will do and cost.

    Raises:
        RunError: there is no time for the first trial.
    """
    own, limits = TrialSettings.of(search.recipe), search.limits
    seconds, done = cost.seconds(search.recipe, own), search.study.trials()
    if not done and seconds > 60 * limits.minutes:
        raise RunError(
            f"--minutes {limits.minutes:g}: the recipe as it is takes about {whole_duration(seconds)}, and a search "
            "takes several trials; give more minutes, or fewer rows with --set data.train_rows"
        )
    longest = max(
        cost.seconds(search.recipe, TrialSettings.searched(search.recipe, own.learning_rate, rank, epochs))
        for rank in search.space.ranks
        for epochs in search.space.epochs
    )
    logger.info(
        "Search %s, in at most %g trials and %g minutes", search.space.describe(),
        limits.most_trials(search.space), limits.minutes,
    )  # fmt: skip
    logger.info(
        "A trial with the recipe as it is takes about %s, the longest trial about %s, with %.1f GB of memory, "
        "estimated from %d training batches and some texts",
        whole_duration(seconds), whole_duration(longest), cost.training.memory_bytes / 1e9, cost.training.batches,
    )  # fmt: skip
    if done:
        logger.info(
            "%d trials are done, in %s", len(done), whole_duration(sum(trial.seconds for trial in done)),
        )  # fmt: skip


def _time_left(search: _Search, cost: TuneCost) -> Callable[[TrialSettings], bool]:
    """Return whether a trial is expected to end in time, by the estimates and by how long the trials so far took."""
    trials = search.study.trials()
    left = 60 * search.limits.minutes - sum(trial.seconds for trial in trials)
    complete = [trial for trial in trials if trial.state == "complete"]
    estimated = sum(cost.seconds(search.recipe, trial.settings) for trial in complete)
    slowness = sum(trial.seconds for trial in complete) / estimated if estimated else 1.0
    return lambda settings: slowness * cost.seconds(search.recipe, settings) <= left


def _say(result: TuneResult, trial: TuneTrial) -> None:
    """Log what became of a trial, and what is best so far."""
    outcome = trial_sentence(trial, result.metric)
    if (winner := result.winner) is None or trial.number == 1:
        logger.info("Trial %d: %s", trial.number, outcome)
    elif winner.number == trial.number:
        logger.info("Trial %d: %s; the best so far", trial.number, outcome)
    else:
        logger.info(
            "Trial %d: %s; trial %d is best with %.3f", trial.number, outcome, winner.number, winner.log_loss,
        )  # fmt: skip


def _write(search: _Search, result: TuneResult) -> None:
    """Write a result, its table and the recipe with the best settings into the folder of the search."""
    search.folder.write(result, tuned_recipe_yaml(search.given, result))


def _result(search: _Search, *, ended: bool) -> TuneResult:
    """Return what the search has found so far."""
    trials, data, limits = search.study.trials(), search.data, search.limits
    best = best_trial(trials)
    gain = interval = None
    if best is not None and trials[0].log_loss is not None:
        mean, (low, high) = paired_gain_of_losses(*map(search.study.row_losses, (1, best.number)))
        # A single row has no interval.
        gain, interval = mean, Interval(low, high) if math.isfinite(low) else None
    return TuneResult(
        recipe=search.given.name,
        space=search.space,
        metric=search.given.evaluate.metric,
        train_rows=len(data.corpus.trained),
        validation_rows=len(data.validation),
        measures_validation=data.measures_validation,
        minutes=limits.minutes,
        most_trials=limits.trials,
        ended=ended,
        trials=trials,
        best=None if best is None else best.number,
        gain=gain,
        gain_interval=interval,
        learned_texts=data.learned_texts,
    )
