"""The demo recipe with its real model and data; the test takes minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from whinchat.pipelines.run import run
from whinchat.recipe.loader import load_recipe


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Let torch use all cores; the other tests use one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("all_cores")
def test_the_demo_reaches_its_documented_metrics(tmp_path: Path) -> None:
    record = run(load_recipe("demo"), tmp_path / "demo")
    after = record.after
    assert (record.manifest.splits["train"].rows, after.score.n) == (3000, 800)
    assert after.score.macro_f1 >= 0.78
    assert after.generate is not None
    assert after.generate.n == 100
    assert after.generate.invalid_rate < 0.015
    # Free answers compare with label scores of the same texts.
    assert after.score_of_generated is not None
    assert abs(after.generate.macro_f1 - after.score_of_generated.macro_f1) < 0.03
    assert record.shipped.macro_f1 >= 0.78
    assert record.before.score.macro_f1 < 0.5
