"""The settings that ``whinchat tune`` searches, their ranges, and the recipes that have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from whinchat.errors import RecipeError
from whinchat.recipe.model_config import AdapterConfig
from whinchat.recipe.schema import Recipe

# By default the learning rate is searched from the recipe's divided by this factor to the recipe's times the factor.
RATE_FACTOR = 5.0
_HIGHEST_RATE, _HIGHEST_RANK, _MOST_EPOCHS = 1.0, 1024, 100_000
# A trial scores validation rows at these shares of its training where the recipe does not say when, this many of them.
_EVAL_STEPS, _EVAL_ROWS = 0.25, 500
# Digits of a learning rate and of an alpha that the search chose, so that a recipe file can be read and typed.
_RATE_DIGITS, _ALPHA_DIGITS = 3, 6


@dataclass(frozen=True)
class TrialSettings:
    """The settings of one trial; the names are those of the recipe's keys."""

    learning_rate: float
    r: int
    lora_alpha: float
    num_train_epochs: float

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Return the settings of ``recipe``."""
        train, adapter = recipe.train, recipe.adapter
        return cls(train.learning_rate, adapter.r, adapter.lora_alpha, train.num_train_epochs)

    @classmethod
    def searched(cls, recipe: Recipe, learning_rate: float, r: int, num_train_epochs: float) -> Self:
        """Return settings that a search proposes; the alpha keeps the scale of the adapter in ``recipe``."""
        if learning_rate != recipe.train.learning_rate:
            learning_rate = _rounded(learning_rate, _RATE_DIGITS)
        return cls(learning_rate, r, _alpha(recipe.adapter, r), num_train_epochs)

    def describe(self) -> str:
        """Return the settings in words."""
        epochs = f"{self.num_train_epochs:g} epoch{'' if self.num_train_epochs == 1 else 's'}"
        return f"learning rate {self.learning_rate:g}, rank {self.r}, alpha {self.lora_alpha:g}, {epochs}"


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _alpha(adapter: AdapterConfig, r: int) -> float:
    """Return the alpha that scales an adapter of rank ``r`` as ``adapter`` is scaled."""
    ratio = r / adapter.r
    return _rounded(adapter.lora_alpha * (ratio**0.5 if adapter.method == "rslora" else ratio), _ALPHA_DIGITS)


@dataclass(frozen=True)
class SearchSpace:
    """The ranges of a search. The settings of the recipe, with which the search begins, always belong to them.

    Attributes:
        learning_rate: the lowest and the highest learning rate.
        ranks: the ranks to choose from, ascending.
        epochs: the numbers of epochs to choose from, ascending.
    """

    learning_rate: tuple[float, float]
    ranks: tuple[int, ...]
    epochs: tuple[float, ...]

    @classmethod
    def around(
        cls,
        recipe: Recipe,
        learning_rate: tuple[float, float] | None = None,
        ranks: Sequence[int] | None = None,
        epochs: Sequence[float] | None = None,
    ) -> Self:
        """Return the ranges to search for ``recipe``.

        Args:
            recipe: the recipe, whose own settings are added to each range.
            learning_rate: the lowest and the highest; None for a fifth of the recipe's and five times the recipe's.
            ranks: ranks to choose from; None for half, once and twice the recipe's.
            epochs: numbers of epochs to choose from; None for half, once and twice the recipe's number, in whole
                numbers. With ``train.max_steps``, the steps decide, so epochs are not searched.

        Raises:
            RecipeError: a range is not valid; the message lists every fault.
        """
        own = TrialSettings.of(recipe)
        faults = [*_rate_faults(learning_rate), *_list_faults("--ranks", ranks, 1, _HIGHEST_RANK)]
        faults += _list_faults("--epochs", epochs, 0, _MOST_EPOCHS)
        if recipe.train.max_steps > 0 and epochs is not None:
            faults.append(
                f"--epochs: train.max_steps={recipe.train.max_steps} ends training whatever the epochs; set "
                "train.max_steps=-1, or leave out --epochs"
            )
        if faults:
            raise RecipeError(*faults)
        rate = learning_rate or (own.learning_rate / RATE_FACTOR, own.learning_rate * RATE_FACTOR)
        low, high = min(rate[0], own.learning_rate), min(max(rate[1], own.learning_rate), _HIGHEST_RATE)
        if epochs is None:
            epochs = _around(own.num_train_epochs, _MOST_EPOCHS) if recipe.train.max_steps <= 0 else ()
        return cls(
            (low, high),
            tuple(sorted({own.r, *(map(int, _around(own.r, _HIGHEST_RANK)) if ranks is None else ranks)})),
            tuple(sorted({own.num_train_epochs, *map(float, epochs)})),
        )

    @property
    def size(self) -> float:
        """The number of different trials; infinite where the learning rate is searched."""
        low, high = self.learning_rate
        return float("inf") if low < high else len(self.ranks) * len(self.epochs)

    def describe(self) -> str:
        """Return the ranges in words."""
        low, high = self.learning_rate
        rate = f"learning rate {low:g} to {high:g}" if low < high else f"learning rate {low:g}"
        epochs = _listed([f"{number:g}" for number in self.epochs])
        return f"{rate}; rank {_listed([str(rank) for rank in self.ranks])}; epochs {epochs}"


def _around(value: float, most: int) -> tuple[float, ...]:
    """Return half of ``value`` and twice ``value`` in whole numbers of 1 to ``most``."""
    return tuple(float(min(max(1, round(factor * value)), most)) for factor in (0.5, 2))


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _rate_faults(rate: tuple[float, float] | None) -> list[str]:
    if rate is None:
        return []
    low, high = rate
    if not 0 < low <= high <= _HIGHEST_RATE:
        return [f"--learning-rate {low:g} {high:g}: must be above 0 and at most {_HIGHEST_RATE:g}, the lower first"]
    return []


def _list_faults(option: str, values: Sequence[float] | None, least: float, most: float) -> list[str]:
    if values is None:
        return []
    if not values:
        return [f"{option}: no number given; give one or more, or leave the option out"]
    bad = [value for value in values if not (least <= value <= most and value > 0)]
    bounds = f"above 0 and at most {most:,}" if least == 0 else f"{least:g} to {most:,}"
    return [f"{option}: {', '.join(f'{value:g}' for value in bad)} out of range; {bounds}"] if bad else []


def tuned_recipe(recipe: Recipe, settings: TrialSettings) -> Recipe:
    """Return ``recipe`` with the settings of a trial.

    Where ``train.eval_steps`` is a number of steps, it grows and shrinks with the epochs, so that every trial is
    evaluated equally often.
    """
    own = TrialSettings.of(recipe)
    if settings == own:
        return recipe
    train = {"learning_rate": settings.learning_rate, "num_train_epochs": settings.num_train_epochs}
    every = recipe.train.eval_steps
    if every is not None and every >= 1 and recipe.train.max_steps <= 0:
        train["eval_steps"] = max(1, round(every * settings.num_train_epochs / own.num_train_epochs))
    adapter = {"r": settings.r, "lora_alpha": settings.lora_alpha}
    return recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update=train),
            "adapter": recipe.adapter.model_copy(update=adapter),
        }
    )


def trial_recipe(recipe: Recipe, settings: TrialSettings) -> Recipe:
    """Return the recipe by which a trial is trained: validation rows are scored during training, trackers are not told.

    Evaluations that the recipe does not ask for choose no checkpoint, so the trained adapter is that of
    ``tuned_recipe``.
    """
    tuned = tuned_recipe(recipe, settings)
    train: dict[str, object] = {"report_to": ()}
    if tuned.train.eval_steps is None:
        train |= {"eval_steps": _EVAL_STEPS, "eval_rows": tuned.train.eval_rows or _EVAL_ROWS}
    evaluate = tuned.evaluate.model_copy(update={"generate": False})
    return tuned.model_copy(update={"train": tuned.train.model_copy(update=train), "evaluate": evaluate})
