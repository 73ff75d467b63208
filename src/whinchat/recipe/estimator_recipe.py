"""The recipe of a ``Classifier``, from its parameters."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from whinchat.errors import RecipeError
from whinchat.recipe.faults import explain_faults
from whinchat.recipe.schema import Recipe

# ``data.source`` of the recipe.
SOURCE = "texts given to fit"
# Parameters that the section ``train`` of a recipe has under the same names.
TRAIN_KEYS = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "loss")
# Methods that have a name of their own, and that a recipe describes by two keys.
_FOUR_BIT = {"qlora": "lora", "qdora": "dora"}


def estimator_recipe(parameters: Mapping[str, Any], labels: Sequence[str], classes: Sequence[Any], seed: int) -> Recipe:
    """Return the recipe of a training.

    Args:
        parameters: the parameters of the ``Classifier`` by name.
        labels: the K labels as text.
        classes: the K labels as the keys of ``answers`` and ``class_weight`` may have them.
        seed: ``train.seed``.

    Raises:
        RecipeError: a parameter has a value that a recipe does not allow.
    """
    if method := _FOUR_BIT.get(parameters["method"]):
        raise RecipeError(
            f'method: {parameters["method"]!r} is {method!r} on a model in 4 bits; set method="{method}" and '
            'settings={"backbone.load_in": "nf4"}'
        )
    # The numbers 1 and 1.0 and True are the same key.
    name_of = {**dict(zip(classes, labels, strict=True)), **{label: label for label in labels}}
    answers = {name_of.get(label, str(label)): word for label, word in (parameters["answers"] or {}).items()}
    words = ", ".join(f'"{answers.get(label, label)}"' for label in labels)
    instruction = f"You are a text classifier. Output exactly one of these labels and nothing else: {words}."
    weights: Any = "none" if parameters["class_weight"] is None else parameters["class_weight"]
    if isinstance(weights, Mapping):
        given = {name_of.get(label, str(label)): weight for label, weight in weights.items()}
        weights = dict.fromkeys(labels, 1.0) | given
    model = parameters["model"]
    raw: dict[str, Any] = {
        "name": "classifier",
        "task": {
            "name": "text-classification",
            "labels": list(labels),
            "instruction": parameters["instruction"] or instruction,
            "answers": answers,
        },
        "data": {"source": SOURCE},
        "backbone": {"model": os.fspath(model) if isinstance(model, os.PathLike) else model},
        "adapter": {"method": parameters["method"]},
        "train": {**{key: parameters[key] for key in TRAIN_KEYS}, "seed": seed, "class_weights": weights},
        "evaluate": {"metric": parameters["metric"], "generate": False},
    }
    return _checked(raw, parameters["settings"], "Classifier")


def question_estimator_recipe(parameters: Mapping[str, Any], seed: int) -> Recipe:
    """Return the recipe of a training of a ``QuestionClassifier``.

    Args:
        parameters: the parameters of the estimator by name.
        seed: ``train.seed``.

    Raises:
        RecipeError: a parameter has a value that a recipe does not allow.
    """
    model, weights = parameters["model"], parameters["class_weight"]
    task: dict[str, Any] = {"name": "text-classification", "questions": parameters["questions"]}
    if parameters["instruction"] is not None:
        task["instruction"] = parameters["instruction"]
    keys = [key for key in TRAIN_KEYS if key in parameters]
    raw: dict[str, Any] = {
        "name": "classifier",
        "task": task,
        "data": {"source": SOURCE},
        "backbone": {"model": os.fspath(model) if isinstance(model, os.PathLike) else model},
        "adapter": {"method": parameters["method"]},
        "train": {key: parameters[key] for key in keys} | {"seed": seed, "class_weights": weights or "none"},
        "evaluate": {"metric": parameters["metric"]},
    }
    return _checked(raw, parameters["settings"], "QuestionClassifier")


def _checked(raw: dict[str, Any], settings: Mapping[str, Any] | None, name: str) -> Recipe:
    """Return ``raw`` with ``settings``, which have dotted names, as a recipe; ``name`` is that of the estimator."""
    for key, value in (settings or {}).items():
        section, _, inner = key.partition(".")
        if not inner or not isinstance(raw.get(section), dict):
            raise RecipeError(
                f"settings: {key!r} is no key of a recipe; give a dotted name such as adapter.r or train.optim"
            )
        raw[section][inner] = value
    try:
        return Recipe.model_validate(raw)
    except ValidationError as faults:
        raise RecipeError("\n".join(explain_faults(name, faults, Recipe, "classifier"))) from None
