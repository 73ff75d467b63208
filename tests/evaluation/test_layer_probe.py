"""Probes of each layer: the states of single passes, and the fewest layers that are as good as any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from tests.helpers import tiny_models
from whinchat.evaluation import layer_probe
from whinchat.evaluation.layer_probe import (
    FOLDS,
    LayerAnswers,
    best_by_chance,
    fewest_layers,
    last_states,
    probe_states,
)


def test_states_are_those_of_single_passes(tiny_llama: Path) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_llama))
    prompts = [prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS)]
    states = last_states(engine, prompts, 3)
    assert states.shape == (3, len(prompts), 32)
    for row, ids in enumerate(prompts):
        with torch.no_grad():
            single = engine.model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        wanted = torch.stack([state[0, -1] for state in single.hidden_states])
        torch.testing.assert_close(torch.from_numpy(states[:, row]), wanted, rtol=1e-4, atol=1e-5)


def probed(strength: float, rows: int = 120, labels: int = 3) -> LayerAnswers:
    """The answers of classifiers on noise, of which the second layer of three knows the label."""
    random = np.random.default_rng(1)
    truth = np.arange(rows) % labels
    states = random.normal(size=(4, rows, 8)).astype(np.float32)
    states[2, np.arange(rows), truth % 8] += strength
    return probe_states(states, truth.tolist())


def test_layers_that_hold_the_label_score_high() -> None:
    answers = probed(4)
    scores = answers.scores()
    assert scores.shape == (4, FOLDS)
    assert scores[2].mean() > 0.95
    assert max(scores[layer].mean() for layer in (0, 1, 3)) < 0.55
    assert 1 / 3 < best_by_chance([answers]) < 0.55


def test_scores_are_scikit_learns_macro_f1() -> None:
    answers = probed(1, rows=43, labels=7)  # folds that lack a label
    wanted = [
        [
            f1_score(answers.truth[rows], layer[rows], average="macro", zero_division=0.0)
            for rows in (answers.folds == fold for fold in range(FOLDS))
        ]
        for layer in answers.answers
    ]
    np.testing.assert_allclose(answers.scores(), wanted)


def test_chance_keeps_the_labels_of_each_fold() -> None:
    answers = probed(4, rows=43, labels=7)
    perfect = LayerAnswers(answers.folds, answers.truth, np.tile(answers.truth, (2, 1)))
    assert perfect.scores().min() == 1
    scores = [perfect.scores_by_chance(np.random.default_rng(seed)).mean() for seed in range(50)]
    assert 0 < np.mean(scores) < 0.3
    only_one = LayerAnswers(answers.folds, np.zeros_like(answers.truth), np.zeros((2, 43), dtype=np.int64))
    assert only_one.scores_by_chance(np.random.default_rng(0)).tolist() == only_one.scores().tolist()


def test_chance_is_exceeded_as_seldom_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_probe, "_RESAMPLES", 99)
    random = np.random.default_rng(0)
    exceeded = 0
    for _ in range(100):
        part = LayerAnswers(np.arange(60) % FOLDS, random.integers(3, size=60), random.integers(3, size=(9, 60)))
        exceeded += part.scores()[1:].mean(axis=1).max() > best_by_chance([part])
    assert 1 <= exceeded <= 11, "about 5 of 100"


def test_the_fewest_layers_within_one_standard_error() -> None:
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    scores = np.array([0.9, 0.3, 0.595, 0.6, 0.58])[:, None] + spread
    assert fewest_layers(scores) == 2, "0.595 is within 0.007 of 0.6; the embeddings are no depth to train"
    assert fewest_layers(scores - [[0], [0], [0.01], [0], [0]]) == 3
    assert fewest_layers(np.array([[0.5], [0.1 + 0.2], [0.3], [0.3]]).repeat(FOLDS, axis=1)) == 1
    assert fewest_layers(np.array([[0.5], [0.3], [0.1 + 0.2], [0.3]]).repeat(FOLDS, axis=1)) == 1, "a tie"
