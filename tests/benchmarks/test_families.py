"""The comparison of families of models with Llama, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.measure import Measured, spread
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from benchmarks import families, tables
from tests.helpers import benchmark_results, tiny_models
from tests.helpers.packed_families import random_model
from whinchat.data.dataset import Split


@pytest.fixture
def split() -> Split:
    texts, labels = tiny_models.toy_rows(24)
    return Split("train", texts, labels)


def rival(name: str, folder: Path, split: Split, monkeypatch: pytest.MonkeyPatch) -> families.Rival:
    monkeypatch.setattr(families, "save_model", lambda name, folder: random_model(folder, CONFIG_MAPPING[name]))
    options = families.parsed(["--texts", "16", "--set", "backbone.load_in=float32"])
    return families.Rival(name, folder, split, options)


def test_a_family_alternates_with_llama(
    tmp_path: Path, split: Split, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama, qwen = (rival(name, tmp_path, split, monkeypatch) for name in ("llama", "qwen2"))
    turns: list[tuple[str, str]] = []
    for model in (llama, qwen):
        for job in ("train", "score"):
            run = getattr(model, job)
            monkeypatch.setattr(model, job, lambda run=run, turn=(model.name, job): turns.append(turn) or run())
    entry = families.compare(llama, qwen, 2)
    assert turns == [(name, job) for job in ("train", "score") for name in ("llama", "qwen2", "qwen2", "llama")]
    assert entry["facts"]["packed"] is True
    for job in ("train", "score"):
        assert entry[job]["cpu_ratio"]["median"] > 0
        assert entry[job]["per_second"]["median"] > 0
    assert "[qwen2] train: " in capsys.readouterr().out


def test_a_ratio_compares_rounds_of_the_same_number() -> None:
    llama = [Measured(10, 1.0, {}, 2.0), Measured(10, 4.0, {}, 2.0), Measured(10, 1.0, {}, 3.0)]
    family = [Measured(10, 2.0, {}, 2.0), Measured(10, 8.0, {}, 4.0), Measured(10, 1.0, {}, 4.0)]
    found = families.ratios(llama, family)
    assert found["wall_ratio"] == spread([0.5, 0.5, 1.0])
    assert found["cpu_ratio"] == spread([1.0, 0.5, 0.75])
    assert found["per_second"] == spread([5.0, 1.25, 10.0])
    assert found["cpu_seconds_per_example"] == 0.4


@pytest.mark.parametrize("name", families.SETTINGS)
def test_every_family_has_llamas_size(name: str) -> None:
    config = AutoConfig.for_model(name, **{**families.SIZE, **families.SETTINGS[name]})
    assert config.model_type == name
    size = "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"
    assert [getattr(config, field) for field in size] == [576, 1536, 30, 9, 3]
    assert getattr(config, "head_dim", None) in (None, 64)


def result() -> dict[str, Any]:
    ratio = {"median": 0.9, "min": 0.8, "max": 1.0}
    job = {"wall_ratio": ratio, "cpu_ratio": {**ratio, "median": 0.95}}
    return {
        **{key: benchmark_results.result()[key] for key in ("provenance", "machine")},
        "settings": {"rounds": 7, "texts": 32, "scored": 128},
        "seconds": 100.0,
        "families": {"qwen2": {"train": job, "score": job, "facts": {"packed": False}}},
    }


def test_table_of_families(tmp_path: Path) -> None:
    row = "| qwen2 | 0.90 (0.80 to 1.00) | 0.95 (0.80 to 1.00) | 0.90 (0.80 to 1.00) | 0.95 (0.80 to 1.00) | plain |"
    assert row in tables.families_section(result())
    stored = tables.save(result(), tmp_path / "families.json")
    published, *_ = tables.publish(benchmark_results.result(), tmp_path / "docs", stored)
    assert row in published.read_text(encoding="utf-8")
