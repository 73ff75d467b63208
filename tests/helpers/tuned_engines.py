"""Tiny models with a stirred adapter of each method, ready to score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers import tiny_models
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.recipe.model_config import AdapterConfig

ADAPTER_METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"method": "dora"},
    "rslora": {"method": "rslora"},
    "pissa": {"init": "pissa"},
    "dora-pissa": {"method": "dora", "init": "pissa"},
    "attention only": {"target_modules": ("k_proj", "v_proj")},
}


def tuned_engine(folder: Path, labels: str = "one", adapter: dict[str, Any] | None = None, **backbone: Any) -> Engine:
    loaded = tiny_models.load(folder, **backbone)
    model = attach_adapter(loaded.model, AdapterConfig(**{"r": 4, "lora_alpha": 8, **(adapter or {})}), seed=3)
    tiny_models.stir(model)
    return tiny_models.engine_of(loaded, tiny_models.LABEL_SETS[labels], model.eval())
