"""Two classifiers on one tiny backbone, and a client of a server that hosts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.helpers import finished_runs, tiny_models
from tests.helpers.served import LIMITS, client_of
from tests.helpers.shared_folders import make_once, shared_root
from whinchat.evaluation.calibrator import Calibrator
from whinchat.pipelines.run import run
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost


@pytest.fixture(scope="session")
def runs(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LoRA of three labels, and a DoRA of four that take several tokens."""

    def make(base: Path) -> None:
        base.mkdir()
        source = finished_runs.write_csv(base / "data.csv", labels=tiny_models.BRANCHING)
        recipe = finished_runs.recipe_for(
            tiny_llama,
            source,
            task={"labels": tiny_models.BRANCHING},
            adapter={"method": "dora", "target_modules": ["q_proj", "up_proj"]},
            train={"learning_rate": 1e-2},
        )
        run(recipe, base / "run")
        adapter = base / "run" / "adapter"
        replace(Calibrator.load(adapter, tiny_models.BRANCHING), threshold=0.5).save(adapter)

    second = make_once(shared_root(tmp_path_factory) / "second", make)
    return {"first": finished_runs.finished_run(tiny_llama), "second": second / "run"}


@pytest.fixture(scope="session")
def host(runs: dict[str, Path]) -> ModelHost:
    return ModelHost.load(runs)


@pytest.fixture
def client(host: ModelHost) -> Iterator[TestClient]:
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as made_client:
        yield made_client
