"""Frozen records of a search for settings: its trials and its result."""

from dataclasses import dataclass
from typing import Literal

from whinchat.evaluation.results import Interval
from whinchat.recipe.schema import MetricName
from whinchat.recipe.search_space import SearchSpace, TrialSettings

TrialState = Literal["complete", "pruned", "diverged"]


@dataclass(frozen=True)
class TuneTrial:
    """One trial.

    Attributes:
        number: 1 for the recipe as it is, which is tried first.
        settings: what was tried.
        state: complete; pruned, because validation loss during training promised too little; or diverged.
        log_loss: mean negative log-probability of the true label on the validation rows, after calibration by numbers
            that were fitted on other rows; None unless complete.
        raw_log_loss: the same without calibration.
        metric: the recipe's metric on the validation rows, of the calibrated answers; None unless complete.
        trained_share: share of the planned training that was done; None where training diverged.
        seconds: wall-clock time, without what an earlier process spent on a trial that it did not finish.
    """

    number: int
    settings: TrialSettings
    state: TrialState
    log_loss: float | None
    raw_log_loss: float | None
    metric: float | None
    trained_share: float | None
    seconds: float


@dataclass(frozen=True)
class TuneResult:
    """What a search has found so far.

    Attributes:
        recipe: name of the recipe.
        space: the ranges that were searched.
        metric: name of the recipe's metric.
        train_rows: rows that every trial was trained on.
        validation_rows: rows that every trial was judged on.
        measures_validation: whether runs of the recipe are measured on the validation rows, too, for want of a test
            split or because the recipe says so.
        minutes, most_trials: the limits of the search.
        ended: whether a limit has ended the search; false while further trials follow.
        trials: the trials in the order in which they were made.
        best: number of the trial with the lowest log-loss; None where no trial was completed.
        gain: by how much the log-loss of the best trial is lower than that of the recipe as it is; None where one of
            them has none.
        gain_interval: the 95 % interval of ``gain`` over the validation rows. It does not allow for the choice of the
            best of several trials. None for a single row.
        learned_texts: number of validation texts that the model had learned before the search, which makes every
            log-loss too good; None where that is not known.
    """

    recipe: str
    space: SearchSpace
    metric: MetricName
    train_rows: int
    validation_rows: int
    measures_validation: bool
    minutes: float
    most_trials: int
    ended: bool
    trials: tuple[TuneTrial, ...]
    best: int | None
    gain: float | None
    gain_interval: Interval | None
    learned_texts: int | None = None

    @property
    def winner(self) -> TuneTrial | None:
        """The trial with the lowest log-loss."""
        return None if self.best is None else self.trials[self.best - 1]

    @property
    def baseline(self) -> TuneTrial:
        """The trial of the recipe as it is."""
        return self.trials[0]


def best_trial(trials: tuple[TuneTrial, ...]) -> TuneTrial | None:
    """Return the trial with the lowest log-loss, the earlier of equal ones; None where none was completed."""
    complete = [(trial.log_loss, trial.number, trial) for trial in trials if trial.log_loss is not None]
    return min(complete)[2] if complete else None
