"""The benchmark for GPUs: what it measures in each data type, and the table that it prints."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.measure import Contest

from benchmarks import gpu
from tests.helpers import tiny_models
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.recipe.loader import load_recipe

ROWS = Split("train", *tiny_models.toy_rows(4))


def contests(device: str, dtype: str, **options: Any) -> dict[str, Contest]:
    found = [*gpu.training(ROWS, device, dtype, **options), *gpu.scoring(ROWS, device, dtype, **options)]
    return {one.name + "-" + one.kind: one for one in found}


def test_a_gpu_without_bfloat16_gets_float16_everywhere() -> None:
    found = contests("cuda", "float16")
    assert found["trl-trl-train"].options["sft"] == {"bf16": False, "fp16": True}
    head = found["head-seqcls-train"].options
    assert (head["amp"], head["dtype"], head["device"]) == ("fp16", "float32", "cuda")
    assert found["head-seqcls-score"].options["dtype"] == "float16"


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "float16"), ("cuda", "bfloat16"), ("cpu", "float32")])
def test_all_contestants_have_valid_recipes_on_the_same_device(device: str, dtype: str) -> None:
    found = contests(device, dtype, model="some/model")
    assert sum(one.kind == "whinchat-train" for one in found.values()) == 3
    for one in found.values():
        recipe = load_recipe(one.options["recipe"], one.options["overrides"])
        assert (recipe.backbone.device, recipe.backbone.model) == (device, "some/model")
        assert one.options["device"] == device
    assert not any("nf4" in name for name in contests("mps", "bfloat16")), "bitsandbytes has no kernels for mps"


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(device: str) -> str:
        raise ModelError(f"no {device}")

    monkeypatch.setattr(gpu, "fast_dtype", refused)
    assert gpu.main([]) == 1
    assert capsys.readouterr().out == "error: no cuda\n"


def entry(title: str, seconds: tuple[float, ...], error: str | None = None, peak: int | None = None) -> dict[str, Any]:
    rounds = [{"examples": 10.0, "seconds": one, "facts": {"peak_gpu_bytes": peak}} for one in seconds]
    rates = sorted(10 / one for one in seconds)
    speed = {"median": rates[len(rates) // 2], "min": rates[0], "max": rates[-1]} if rates else None
    return {"title": title, "rounds": rounds, "per_second": speed, "error": error, "unavailable": None}


def test_the_table_names_gpu_versions_and_ratios() -> None:
    groups = {
        "training": {
            "whinchat": entry("whinchat, LoRA", (1.0, 2.0, 1.0), peak=2**30),
            "trl": entry("TRL, LoRA", (3.0, 4.0, 4.0), peak=2**31),
            "broken": entry("NF4", (), error="no kernel"),
        }
    }
    table = gpu.page(
        {
            "machine": {"gpu": "Tesla T4", "gpu_memory_bytes": 15 * 2**30, "dtype": "float16", "cores": 2},
            "versions": {"torch": "2.13.0", "trl": None},
            "provenance": {"commit": "abc", "date": "today"},
            "workload": {"texts": 512, "scored": 2048, "description": "tweets", "quick": False},
            "groups": groups,
        }
    )
    assert table.startswith("**Tesla T4 (")
    assert "torch 2.13.0. Commit abc" in table
    # Rounds in pairs: 3, 2 and 4 times as fast.
    assert "| TRL, LoRA | 2.5 (2.5 to 3.3) | 3.00 |" in table
    assert "| NF4 | failed: no kernel | not measured | not measured |" in table
    assert "quick run" not in table
