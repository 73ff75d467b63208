"""How fast whinchat trains and scores an architecture, relative to a Llama that needs as many operations."""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from tests.helpers import tiny_models
from tests.helpers.zoo import ZOO, ZooModel
from tests.helpers.zoo_checks import batch_loss
from torch.utils.flop_counter import FlopCounterMode

from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.recipe.model_config import AdapterConfig

WIDTH, ROUNDS, TEXTS = 256, 5, 16
# Fields that grow with the width of a model.
_WIDTHS = {
    "hidden_size", "intermediate_size", "head_dim", "global_head_dim", "moe_intermediate_size",
    "shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size",
    "intermediate_size_mlp", "q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
    "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "mamba_d_head", "mamba_head_dim", "mamba_d_ssm",
    "mamba_dt_rank", "time_step_rank", "lru_width", "laurel_rank", "hidden_size_per_layer_input", "n_embd",
    "rotary_dim", "ffn_dim", "word_embed_proj_dim", "d_model", "ffn_hidden_size", "kv_channels",
    "attention_hidden_size", "dim_model_base", "mrope_section", "projector_output_dim", "vision_output_dim",
    "out_hidden_size",
}  # fmt: skip
_WINDOWS = {"sliding_window", "window_size", "attention_window_size", "attention_chunk_size"}


def relative_speed(kind: ZooModel, scratch: Path) -> dict[str, float]:
    """Return the speeds of training and scoring, divided by Llama's: medians of interleaved rounds, in CPU seconds."""
    wide = widened(kind)
    other = _engine(wide, scratch / "wide")
    llama = _engine(
        _llama_with(_operations(wide), layers=wide.config().get_text_config().num_hidden_layers), scratch / "llama"
    )
    ratios: dict[str, list[float]] = {"train": [], "score": []}
    for _ in range(ROUNDS + 1):
        for work, values in ratios.items():
            ours, theirs = _seconds(llama, work), _seconds(other, work)
            values.append(ours / theirs)
    # The first round warms up.
    return {work: statistics.median(values[1:]) for work, values in ratios.items()}


def widened(kind: ZooModel) -> ZooModel:
    """Return the architecture with layers of ``WIDTH``, and with windows that hold every prompt."""
    factor = WIDTH // (kind.fields.get("hidden_size") or kind.fields.get("n_embd") or kind.fields["d_model"])
    outer = (
        None
        if kind.outer is None
        else _widened(kind.outer, factor, only={"projector_output_dim", "vision_output_dim", "out_hidden_size"})
    )
    return dataclasses.replace(kind, fields=_widened(kind.fields, factor), outer=outer)


def _widened(fields: dict[str, Any], factor: int, only: set[str] | None = None) -> dict[str, Any]:
    wider: dict[str, Any] = {}
    for name, value in fields.items():
        wider[name] = value
        if isinstance(value, dict):
            wider[name] = _widened(value, factor, only)
        elif name in (only or _WIDTHS) and value:
            wider[name] = [part * factor for part in value] if isinstance(value, list) else value * factor
        elif name in ("short_factor", "long_factor"):
            wider[name] = value * factor
        elif name in _WINDOWS and value:
            wider[name] = 512
    return wider


def _llama_with(operations: float, layers: int) -> ZooModel:
    """Return a Llama of ``layers`` layers of ``WIDTH`` that needs about as many operations."""
    base = widened(ZOO["Llama"])

    def of_width(width: int) -> ZooModel:
        return dataclasses.replace(
            base, fields={**base.fields, "num_hidden_layers": layers, "intermediate_size": width}
        )

    narrow, wide = (_operations(of_width(width)) for width in (8, 1032))
    width = 8 + 1024 * (operations - narrow) / (wide - narrow)
    return of_width(max(8, 8 * round(width / 8)))


def _operations(kind: ZooModel) -> float:
    """Return the operations of the matrix products of one plain pass over 64 tokens."""
    # The counter hooks into every tensor that requires a gradient, and fails where gradients are off.
    model = kind.build().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(3, 67)[None], use_cache=False)
    return float(counter.get_total_flops())


def _engine(kind: ZooModel, folder: Path) -> Engine:
    backbone = tiny_models.load(kind.save(folder))
    tuned = attach_adapter(backbone.model, AdapterConfig(), seed=3)
    tiny_models.stir(tuned)
    return tiny_models.engine_of(backbone, tiny_models.SEVERAL_TOKENS, tuned)


def _seconds(engine: Engine, work: str) -> float:
    texts, labels = tiny_models.toy_rows(TEXTS if work == "train" else 2 * TEXTS)
    started = time.process_time()
    if work == "train":
        engine.model.train()
        batch_loss(engine, "completion", texts, labels).backward()
        engine.model.zero_grad()
        engine.model.eval()
    else:
        score_prompts(engine, engine.template.encode(texts), TEXTS)
    return time.process_time() - started
