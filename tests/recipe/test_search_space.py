"""Ranges begin around the recipe, hold its own settings, and are checked all at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import tiny_models
from whinchat.errors import RecipeError
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace, TrialSettings, trial_recipe, tuned_recipe


def recipe_for(**sections: Any) -> Recipe:
    adapter = {"r": 16, "lora_alpha": 32, **sections.pop("adapter", {})}
    return tiny_models.tiny_recipe("unused", adapter=adapter, **sections)


def test_the_default_ranges_lie_around_the_recipe() -> None:
    space = SearchSpace.around(recipe_for(train={"learning_rate": 1e-3, "num_train_epochs": 3}))
    assert space.learning_rate == pytest.approx((2e-4, 5e-3))
    assert (space.ranks, space.epochs) == ((8, 16, 32), (2, 3, 6))
    space = SearchSpace.around(recipe_for(train={"learning_rate": 0.5}))
    assert (space.learning_rate, space.epochs) == ((0.1, 1.0), (1, 2))
    steps = SearchSpace.around(recipe_for(train={"max_steps": 50, "num_train_epochs": 3}))
    assert steps.epochs == (3,), "the steps decide"


def test_the_settings_of_the_recipe_belong_to_given_ranges() -> None:
    space = SearchSpace.around(recipe_for(train={"learning_rate": 1e-3}), (2e-3, 4e-3), [64, 8, 8], [2])
    assert space == SearchSpace((1e-3, 4e-3), (8, 16, 64), (1, 2))
    assert space.size == float("inf")
    assert SearchSpace.around(recipe_for(train={"learning_rate": 1e-3}), (1e-3, 1e-3), [8], [2]).size == 4
    assert space.describe() == "learning rate 0.001 to 0.004; rank 8, 16 or 64; epochs 1 or 2"


def test_every_fault_of_the_ranges_is_listed() -> None:
    with pytest.raises(RecipeError) as error:
        SearchSpace.around(recipe_for(train={"max_steps": 5}), (0.1, 0.01), [0, 8], [-1, float("nan")])
    assert error.value.faults == (
        "--learning-rate 0.1 0.01: must be above 0 and at most 1, the lower first",
        "--ranks: 0 out of range; 1 to 1,024",
        "--epochs: -1, nan out of range; above 0 and at most 100,000",
        "--epochs: train.max_steps=5 ends training whatever the epochs; set train.max_steps=-1, or leave out --epochs",
    )
    with pytest.raises(RecipeError, match="--ranks: no number given"):
        SearchSpace.around(recipe_for(), ranks=[])


@pytest.mark.parametrize(("method", "alpha"), [("lora", 128), ("dora", 128), ("rslora", 64)])
def test_alpha_keeps_the_scale_of_the_adapter(method: str, alpha: float) -> None:
    settings = TrialSettings.searched(recipe_for(adapter={"method": method}), 0.0012345, 64, 2)
    assert settings == TrialSettings(0.00123, 64, alpha, 2)
    assert settings.describe() == f"learning rate 0.00123, rank 64, alpha {alpha}, 2 epochs"


def test_the_recipe_itself_is_a_trial() -> None:
    recipe = recipe_for(train={"learning_rate": 1.23456e-3})
    own = TrialSettings.of(recipe)
    assert TrialSettings.searched(recipe, 1.23456e-3, 16, 1) == own
    assert tuned_recipe(recipe, own) is recipe


def test_a_trial_is_evaluated_as_often_as_the_recipe() -> None:
    recipe = recipe_for(train={"eval_steps": 100, "num_train_epochs": 2, "report_to": ["tensorboard"]})
    settings = TrialSettings(1e-4, 8, 16, 5)
    tuned, trial = tuned_recipe(recipe, settings), trial_recipe(recipe, settings)
    assert (tuned.train.eval_steps, tuned.train.num_train_epochs, tuned.train.learning_rate) == (250, 5, 1e-4)
    assert (tuned.train.report_to, trial.train.report_to) == (("tensorboard",), ())
    assert trial.train.eval_steps == 250
    never = recipe_for()
    assert tuned_recipe(never, settings).train.eval_steps is None
    train = trial_recipe(never, settings).train
    assert (train.eval_steps, train.eval_rows) == (0.25, 500)
