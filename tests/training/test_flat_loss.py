"""A loss that stays at that of constant answers is said while training runs, and no other loss is."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from tests.helpers import tiny_models
from tests.helpers.tiny_training import make, recipe_for, split
from whinchat.training import flat_loss
from whinchat.training.flat_loss import constant_loss, flat_level

GOLDEN = Path(__file__).parents[1] / "storage" / "golden" / "history.json"


def logged(losses: list[float]) -> list[tuple[int, float]]:
    return [(10 * (index + 1), loss) for index, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "flat_at"),
    [
        ([1.1] * 30, 10),
        ([5.8, 2.0, *[1.1, 1.12, 1.08] * 9], 12),  # collapsed to one label after a rough start
        ([5.8, 2.0, 0.43, *[0.3] * 20], None),
        ([5.8 * 0.93**index for index in range(30)], None),  # falls slowly, but falls
        ([*[1.1] * 7, *[1.05, 1.0, 0.95], *[0.9] * 20], None),  # begins to learn after 70 steps
        ([*[1.05] * 30], None),  # a hard task, of which a little is learned
    ],
)
def test_what_counts_as_flat(losses: list[float], flat_at: int | None) -> None:
    points = logged(losses)
    found = [end for end in range(1, len(points) + 1) if flat_level(points[:end], math.log(3), 300) is not None]
    assert (found[0] if found else None) == flat_at


def test_a_slow_start_of_a_long_training_is_no_warning() -> None:
    assert flat_level(logged([1.1] * 30), math.log(3), 10_000) is None


def test_a_recorded_run_that_learned_is_no_warning() -> None:
    points = [(point["step"], point["loss"]) for point in json.loads(GOLDEN.read_text(encoding="utf-8"))]
    assert all(flat_level(points[:end], math.log(3), points[-1][0]) is None for end in range(len(points)))


def test_the_loss_of_constant_answers() -> None:
    assert constant_loss([0, 1, 2], [1.0] * 3) == pytest.approx(math.log(3))
    assert constant_loss([0, 0, 0, 1], [1.0] * 4) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    balanced = constant_loss([0, 0, 0, 1], [2 / 3, 2 / 3, 2 / 3, 2.0])
    assert balanced == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", ["choice", "completion"])
def test_training_says_it_once(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """A rate of nearly zero learns nothing, and the bare model is worse than constant answers."""
    monkeypatch.setattr(flat_loss, "_SPAN", 3)
    settings = {"learning_rate": 1e-12, "loss": loss, "max_steps": 8, "per_device_train_batch_size": 3}
    recipe, rows = recipe_for(tiny_llama, settings), split(3)
    assert {len(answer) for answer in tiny_models.template_of(tiny_models.load(tiny_llama)).answers} == {1}
    with caplog.at_level(logging.WARNING, "whinchat"):
        make(recipe, tmp_path, rows).train()
    said = [record.getMessage() for record in caplog.records if "flat" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("The training loss has been flat for 6 of 8 steps: ")
    shares = [rows.labels.count(label) / 3 for label in set(rows.labels)]
    entropy = -sum(share * math.log(share) for share in shares)
    assert f"do not depend on the text reach {entropy / (2 if loss == 'completion' else 1):.3f}." in said[0]
