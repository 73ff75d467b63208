"""Models loaded tensor by tensor on the CPU, with little memory and, for NF4, in little time.

transformers converts and quantizes while it loads, but from memory-mapped files: every page read stays resident until
the last tensor of its file is gone, so the process grows by the whole checkpoint. And nearly all of the time that NF4
takes goes into one search over 15 boundaries per weight. Here transformers is handed the same tensors read on demand
into memory of their own, and bitsandbytes' quantization is answered by a table. The loaded model is the same, bit for
bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whinchat.model.memory import give_back_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Weights quantized at a time. Below 32,768 elements torch uses one thread: the operations are too short to be shared,
# and where the cores have other work, waiting for the second thread cost 15 times the work itself.
_PIECE = 1 << 14


def load_streamed(
    path: str, revision: str | None, options: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]] | None:
    """What ``AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **options)`` gives, one tensor at a
    time; None where the checkpoint has to be loaded another way.

    Args:
        path: a model folder or a hub id.
        revision: of the hub id.
        options: for ``from_pretrained``.

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: as ``from_pretrained`` does.
    """
    from safetensors import safe_open
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    folder = _folder(path, revision)
    config = AutoConfig.from_pretrained(folder)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    files = _weight_files(folder)
    if (
        not files
        or not isinstance(kind, type)
        or kind.config_class is not type(config)  # type: ignore[attr-defined]
        or (folder / "adapter_config.json").is_file()
        or any(getattr(config, field, None) for field in ("quantization_config", "transformers_weights"))
    ):
        return None
    with ExitStack() as opened, FastNF4():
        # Mapped pages count as resident; what is read into a tensor goes when the tensor goes.
        shards = [opened.enter_context(safe_open(file, framework="pt", backend="pread")) for file in files]
        tensors = {name: shard.get_slice(name) for shard in shards for name in shard.keys()}  # noqa: SIM118
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]
            None, config=config, state_dict=tensors, output_loading_info=True, **options
        )
    # From here on what from_pretrained does where it is given a path.
    model.config.name_or_path = model.name_or_path = path
    model.generation_config = _generation_config(folder)
    give_back_memory()
    return model, report


def misshapen(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of NF4 weights whose shapes are not the architecture's; transformers does not look at theirs."""
    return tuple(
        f"{name}.weight"
        for name, module in model.named_modules()
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None
        and tuple(state.shape) != (module.out_features, module.in_features)
    )


class FastNF4(TorchFunctionMode):
    """Within it, bitsandbytes' NF4 quantization on the CPU is answered by ``quantize_nf4``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer the one operator, and pass on all others."""
        if func is torch.ops.bitsandbytes.quantize_4bit.default and not kwargs:
            weight, blocksize, quant_type, storage = args
            ours = quant_type == "nf4" and storage == torch.uint8 and weight.device.type == "cpu"
            if ours and weight.numel() % blocksize == 0:
                return quantize_nf4(weight, blocksize)
        return func(*args, **(kwargs or {}))


def quantize_nf4(weight: Tensor, blocksize: int = 64) -> tuple[Tensor, Tensor]:
    """Quantize a CPU tensor as ``torch.ops.bitsandbytes.quantize_4bit`` does, several times faster.

    N: weights; S: ``blocksize``, which divides N.

    Args:
        weight: any floating dtype, N elements.
        blocksize: weights that share a scale.

    Returns:
        Two codes a byte, first in the high half, uint8, shape (N / 2, 1); largest magnitude of each block, float32,
        shape (N / S,).

    Source: QLoRA, section 3 (arXiv:2305.14314); the order of the float32 operations is bitsandbytes'.
    """
    below, border = _code_table()
    flat = weight.detach().reshape(-1)  # (N,)
    packed = torch.empty(flat.numel() // 2, dtype=torch.uint8)
    absmax = torch.empty(flat.numel() // blocksize, dtype=torch.float32)
    step = max(_PIECE // blocksize, 1)
    for first in range(0, absmax.numel(), step):
        scales = absmax[first : first + step]
        rows = flat[first * blocksize : (first + step) * blocksize].view(-1, blocksize).float()
        torch.amax(rows.abs(), dim=-1, out=scales)
        # All-zero blocks are divided by something, too.
        scaled = (rows * (1.0 / scales.clamp(min=1e-38)).view(-1, 1)).clamp_(-1, 1).view(-1)
        cell = (scaled.view(torch.int32) >> 16).add_(1 << 15)  # upper half of each float32's bits, as 0 ... 65535
        codes = below.index_select(0, cell)
        codes += scaled > border.index_select(0, cell)
        pairs = codes.view(-1, 2)
        start = first * blocksize // 2
        torch.add(pairs[:, 1], pairs[:, 0], alpha=16, out=packed[start : start + pairs.shape[0]])
    return packed.view(-1, 1), absmax


@cache
def _code_table() -> tuple[Tensor, Tensor]:
    """For each upper half of a float32's bits: codes surely below the value, and the one boundary it may pass.

    Boundaries lie so far apart that no two have the same upper half.
    """
    from bitsandbytes.functional import get_4bit_type

    levels = get_4bit_type("nf4", device="cpu")  # (16,), ascending
    borders = (levels[:-1] + levels[1:]) / 2
    upper = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32) << 16
    # A negative float is smallest where its lower bits are all set.
    lowest = torch.where(upper < 0, upper | 0xFFFF, upper).view(torch.float32)
    # NaN lies above every boundary, as in torch.bucketize.
    below = (len(borders) - (lowest.view(-1, 1) <= borders).sum(dim=1)).to(torch.uint8)
    border = torch.full((1 << 16,), torch.inf)
    border[(borders.view(torch.int32) >> 16) + (1 << 15)] = borders
    return below, border


def _folder(path: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    wanted = ("*config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
    return Path(snapshot_download(path, revision=revision, allow_patterns=list(wanted)))


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    names = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
    return [folder / name for name in sorted(set(names))]


def _generation_config(folder: Path) -> Any:
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    # Models of old keep these settings in their config.
    return GenerationConfig.from_pretrained(folder, config_file_name="config.json", _from_model_config=True)
