"""The Optuna study of a search for settings: which settings come next, and which trainings end early.

The study is a journal file. Optuna's TPE sampler proposes settings; its random numbers depend only on the seed and on
the number of trials before, so a search that was killed goes on with the proposals that it would have made.
"""

import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from whinchat.errors import RunError
from whinchat.output_files import writing
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace, TrialSettings
from whinchat.storage.json_records import from_json, to_json
from whinchat.storage.tune_record import TuneTrial

_STUDY = "tune"
# Trials with random settings, the recipe as it is among them, before the sampler learns from them.
_RANDOM_TRIALS = 5
# No training is stopped before as many trials are complete, nor in the first part of its steps.
_TRIALS_BEFORE_PRUNING, _STEPS_BEFORE_PRUNING = 3, 0.2
_KEPT = (TrialState.COMPLETE, TrialState.PRUNED)
# Names of the attributes of a trial in the study.
_RECORD, _LOSSES, _REPORTED = "trial", "row_losses", "reported"
_LOSS_DIGITS = 6


class AskedTrial:
    """A trial that is to be made.

    Attributes:
        number: its number, from 1; 1 is the recipe as it is.
        settings: what to try.
    """

    def __init__(self, number: int, settings: TrialSettings, trial: Trial, journal: Path) -> None:
        self.number, self.settings, self.trial, self._journal = number, settings, trial, journal
        # What an earlier process reported. Training may go on behind these evaluations, or come by them once more.
        self._earlier: list[tuple[int, float]] = trial.user_attrs.get(_REPORTED, [])
        self._reported: set[int] = set()

    def should_stop(self, evaluation: int, loss: float) -> bool:
        """Note the validation loss of an evaluation, and return whether training is to stop; see ``PruneByLoss``."""
        with writing(self._journal):
            self.report_earlier(before=evaluation)
            self._report(evaluation, loss)
        return self.trial.should_prune()

    def report_earlier(self, before: float = math.inf) -> None:
        """Report what an earlier process reported of this trial; the median of later trials counts it."""
        for earlier, loss in self._earlier:
            if earlier < before:
                self._report(earlier, loss)

    def _report(self, evaluation: int, loss: float) -> None:
        if evaluation not in self._reported:
            self._reported.add(evaluation)
            self.trial.report(loss, evaluation)


class TuneStudy:
    """The trials of a search, in a journal that a kill leaves readable. The caller holds the folder of the journal.

    Args:
        journal: path of the journal; without one, a new study begins.
        recipe: the recipe as it is.
        space: the ranges of the search.
        evaluations: how often each training is evaluated.

    Raises:
        RunError: the journal is damaged.
        OutputError: it cannot be written.
    """

    def __init__(self, journal: Path, recipe: Recipe, space: SearchSpace, evaluations: int) -> None:
        self._path, self._recipe, self._space = journal, recipe, space
        _mend(journal)
        try:
            with self._using():
                lock = JournalFileOpenLock(str(journal))
                self._study = optuna.create_study(
                    storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
                    study_name=_STUDY,
                    direction="minimize",
                    load_if_exists=True,
                    pruner=MedianPruner(_TRIALS_BEFORE_PRUNING, max(1, round(_STEPS_BEFORE_PRUNING * evaluations))),
                )
            self.trials()
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise RunError(
                f"{journal}: not readable as a study ({type(error).__name__}: {' '.join(str(error).split())}); start "
                "again with --overwrite"
            ) from None

    def trials(self) -> tuple[TuneTrial, ...]:
        """Return the trials that have ended, in order."""
        with self._using():
            return tuple(from_json(TuneTrial, trial.user_attrs[_RECORD]) for trial in self._kept())

    def row_losses(self, number: int) -> NDArray[np.float64]:
        """Return what each validation row added to the log-loss of a complete trial, (N,)."""
        with self._using():
            return np.array(self._kept()[number - 1].user_attrs[_LOSSES])

    def ask(self, fits: Callable[[TrialSettings], bool]) -> AskedTrial | None:
        """Return the next trial, or None where no trial fits.

        A trial that was interrupted is returned once more. Where the proposed number of epochs does not fit, the
        largest that does takes its place.

        Args:
            fits: whether there is time for a trial of these settings.
        """
        with self._using():
            number = len(self._kept()) + 1
            seed = (self._recipe.train.seed + 7919 * number) % 2**32
            self._study.sampler = TPESampler(n_startup_trials=_RANDOM_TRIALS, seed=seed)
            begun = self._requeue(first=number == 1)
            if not begun and self._space.size < math.inf and not self._enqueue_untried(fits, seed):
                return None
            trial = self._study.ask()
            settings = self._suggest(trial)
            if not begun and not fits(settings):
                self._study.tell(trial, state=TrialState.FAIL)
                epochs = [one for one in self._space.epochs if fits(replace(settings, num_train_epochs=one))]
                if not epochs:
                    return None
                self._study.enqueue_trial({**trial.params, "num_train_epochs": max(epochs)})
                trial = self._study.ask()
                settings = self._suggest(trial)
            return AskedTrial(number, settings, trial, self._path)

    def finish(self, asked: AskedTrial, record: TuneTrial, row_losses: NDArray[np.float64] | None = None) -> None:
        """Store the outcome of a trial; ``row_losses`` (N,) of a complete one."""
        with self._using():
            # Training may have gone on behind all evaluations of an earlier process.
            asked.report_earlier()
            asked.trial.set_user_attr(_RECORD, to_json(record))
            if row_losses is not None:
                asked.trial.set_user_attr(_LOSSES, [round(loss, _LOSS_DIGITS) for loss in row_losses.tolist()])
            if record.log_loss is None:
                self._study.tell(asked.trial, state=TrialState.PRUNED)
            else:
                self._study.tell(asked.trial, record.log_loss)

    def _kept(self) -> list[FrozenTrial]:
        """Return the trials that have ended, apart from those that were interrupted or did not fit."""
        return self._study.get_trials(deepcopy=False, states=_KEPT)

    def _requeue(self, *, first: bool) -> bool:
        """Queue the trial that an earlier process has left unfinished, or the first one; return whether there is one.

        Optuna counts the unfinished trial as failed, and its settings and reported losses go to a new one.
        """
        waiting = bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
        own = TrialSettings.of(self._recipe)
        params: dict[str, Any] = {
            "learning_rate": own.learning_rate, "r": own.r, "num_train_epochs": own.num_train_epochs,
        }  # fmt: skip
        begun = False
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not waiting and (first or len(trial.params) == len(params)):
                reported = list(trial.intermediate_values.items())
                self._study.enqueue_trial(params if first else trial.params, {_REPORTED: reported})
                waiting = begun = True
            self._study.tell(trial.number, state=TrialState.FAIL)
        if first and not waiting:
            self._study.enqueue_trial(params)
        return begun or first or waiting

    def _enqueue_untried(self, fits: Callable[[TrialSettings], bool], seed: int) -> bool:
        """Queue settings of a finite space that no trial has had and that fit; return whether there are any."""
        rate, tried = self._space.learning_rate[0], [trial.params for trial in self._kept()]
        every: list[dict[str, Any]] = [
            {"learning_rate": rate, "r": r, "num_train_epochs": epochs}
            for r, epochs in product(self._space.ranks, self._space.epochs)
        ]
        left = [one for one in every if one not in tried and fits(TrialSettings.searched(self._recipe, **one))]
        if left:
            self._study.enqueue_trial(random.Random(seed).choice(left))
        return bool(left)

    def _suggest(self, trial: Trial) -> TrialSettings:
        low, high = self._space.learning_rate
        return TrialSettings.searched(
            self._recipe,
            trial.suggest_float("learning_rate", low, high, log=True),
            trial.suggest_categorical("r", self._space.ranks),
            trial.suggest_categorical("num_train_epochs", self._space.epochs),
        )

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep Optuna's own messages off the log, and name the journal where it cannot be written."""
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(logging.ERROR)
        try:
            with writing(self._path), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="optuna")
                yield
        finally:
            optuna.logging.set_verbosity(level)


def _mend(journal: Path) -> None:
    """Remove what a killed process may have left: half a line at the end of the journal, and its lock."""
    with writing(journal), suppress(FileNotFoundError):
        Path(f"{journal}.lock").unlink(missing_ok=True)
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
