"""Probes of each layer: the states of single passes, and the fewest layers that are as good as any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.helpers import tiny_models
from whinchat.evaluation.layer_probe import FOLDS, fewest_layers, last_states, probe_states


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


def test_layers_that_hold_the_label_score_high() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=120)
    states = random.normal(size=(4, 120, 8)).astype(np.float32)
    states[2, np.arange(120), labels] += 4
    scores = probe_states(states, labels.tolist())
    assert scores.shape == (4, FOLDS)
    assert scores[2].mean() > 0.95
    assert max(scores[layer].mean() for layer in (0, 1, 3)) < 0.55


def test_the_fewest_layers_within_one_standard_error() -> None:
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    scores = np.array([0.9, 0.3, 0.595, 0.6, 0.58])[:, None] + spread
    assert fewest_layers(scores) == 2, "0.595 is within 0.007 of 0.6; the embeddings are no depth to train"
    assert fewest_layers(scores - [[0], [0], [0.01], [0], [0]]) == 3
