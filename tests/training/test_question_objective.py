"""The loss of a task with questions equals plain passes of each question alone, in losses and gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import plain_forward, tiny_models, tiny_questions
from tests.helpers.combinations import half_of
from whinchat.data.dataset import Split
from whinchat.evaluation import joint_scoring
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.recipe.schema import Recipe
from whinchat.training.losses import IGNORED
from whinchat.training.question_objective import QuestionObjective, near_shares
from whinchat.training.trainer import AnswerTrainer, training_arguments

ORDERS = {"text first": "{text}\n\n{question}", "question first": "{question}\n\n{text}"}


def engine_for(recipe: Recipe) -> Engine:
    backbone = tiny_models.load(recipe.backbone.model)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    tiny_models.stir(tuned)
    return Engine.build(tuned.eval(), backbone.plan, backbone.tokenizer.template(recipe))


def our_loss(objective: QuestionObjective) -> torch.Tensor:
    inputs = objective.collate(objective.examples)
    losses = torch.cat([objective.losses(part) for part in objective.parts(inputs)])
    return losses.sum() / (inputs["labels"] != IGNORED).sum()


@pytest.mark.parametrize(
    ("tiny_model", "order", "method"), half_of(tiny_models.BOTH, ORDERS, ("lora", "dora")), indirect=["tiny_model"]
)
def test_loss_and_gradients(tiny_model: Path, tmp_path: Path, order: str, method: str) -> None:
    recipe = tiny_questions.recipe_for(tiny_model, ORDERS[order], adapter={"method": method, "r": 4, "lora_alpha": 8})
    engine, rows = engine_for(recipe), tiny_questions.rows_of(recipe)
    twin = plain_forward.plain_twin(engine.model, tiny_model, tmp_path)
    found = our_loss(QuestionObjective(engine, recipe, rows))
    wanted = tiny_questions.plain_loss(twin, engine, recipe, rows)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    plain_forward.assert_same_gradients(
        plain_forward.gradients(engine.model, found), plain_forward.gradients(twin, wanted)
    )


def test_several_passes_and_batches_have_the_same_loss(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_questions.recipe_for(tiny_llama)
    objective = QuestionObjective(engine_for(recipe), recipe, tiny_questions.rows_of(recipe))
    assert len(objective.collate(objective.examples)["passes"]) == 1
    together = our_loss(objective)
    monkeypatch.setattr(joint_scoring, "MOST_NODES", 40)
    assert len(objective.collate(objective.examples)["passes"]) > 1
    torch.testing.assert_close(our_loss(objective), together, rtol=1e-5, atol=1e-6)


def test_gaps_are_left_out_where_that_saves_much(tiny_llama: Path) -> None:
    """Texts of two tasks in one table: each is asked the question of its own task alone."""
    recipe = tiny_questions.recipe_for(tiny_llama)
    engine, rows = engine_for(recipe), tiny_questions.rows_of(recipe, 12)
    only = [
        tuple(answer if (index == 0) == (row % 2 == 0) else None for index, answer in enumerate(answers))
        for row, answers in enumerate(rows.answers)
    ]
    apart = replace(rows, answers=tuple(one[:1] + one[1:2] + (None,) * 3 for one in only))
    objective = QuestionObjective(engine, recipe, apart)
    parts = objective.collate(objective.examples)["passes"]
    assert {part["decisions"] for part in parts} == {(0,), (1,)}
    torch.testing.assert_close(
        our_loss(objective), tiny_questions.plain_loss(engine.model, engine, recipe, apart), rtol=1e-5, atol=1e-6
    )


def test_a_batch_whose_answers_weigh_nothing(tiny_llama: Path) -> None:
    recipe = tiny_questions.recipe_for(tiny_llama)
    questions = {"rain": recipe.task.questions["rain"].model_copy(update={"class_weights": {"no": 0.0, "yes": 1.0}})}
    recipe = recipe.model_copy(update={"task": recipe.task.model_copy(update={"questions": questions})})
    rows = Split("train", ("a", "b", "c"), (0, 0, 1), answers=((0,), (0,), (1,)))
    objective = QuestionObjective(engine_for(recipe), recipe, rows)
    inputs = objective.collate(objective.examples[:2])
    (part,) = objective.parts(inputs)
    assert objective.losses(part).tolist() == [0, 0]
    assert (inputs["labels"] != IGNORED).sum() == 2


def test_the_loss_of_constant_answers(tiny_llama: Path) -> None:
    """Biases alone cannot do better than ``constant_loss``: the best shares of each decision's labels."""
    recipe = tiny_questions.recipe_for(tiny_llama)
    objective = QuestionObjective(engine_for(recipe), recipe, tiny_questions.rows_of(recipe))
    inputs = objective.collate(objective.examples)
    (part,) = inputs["passes"]
    biases = torch.zeros(part["labels"].shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([biases], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        log_probs = torch.cat([own.log_softmax(0) for own in biases.split(part["tree"].sizes)])
        return -(part["labels"] * log_probs).sum() / (inputs["labels"] != IGNORED).sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert objective.constant_loss == pytest.approx(float(loss()), abs=1e-4)


def test_near_levels_get_shares_that_fall_with_distance() -> None:
    np.testing.assert_array_equal(near_shares(3, "none"), np.eye(3))
    e = np.exp(-1.0)
    np.testing.assert_allclose(near_shares(3, "absolute")[0], np.array([1, e, e**2]) / (1 + e + e**2))
    np.testing.assert_allclose(near_shares(3, "squared")[0], np.array([1, e, e**4]) / (1 + e + e**4))


def test_training_learns_every_question(tiny_llama: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 2e-2, "max_steps": 40, "per_device_train_batch_size": 3, "logging_steps": 40}
    recipe = tiny_questions.recipe_for(tiny_llama, train={**settings, "eval_steps": 20})
    engine, rows = engine_for(recipe), tiny_questions.rows_of(recipe)
    engine.model.train()
    trainer = AnswerTrainer(engine, recipe, rows, rows, args=training_arguments(recipe, engine.plan, tmp_path))
    before = trainer.objective.validate()
    trainer.train()
    loss, macro_f1 = trainer.objective.validate()
    assert loss < 0.6 * before[0]
    assert macro_f1 > max(0.8, before[1])
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert logged[-1] == pytest.approx(loss, rel=1e-4)
