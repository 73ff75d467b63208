"""Load an adapter's weights whole: each one that its configuration asks for is there and used, or none is.

PEFT loads what fits by name, gives the rest random values or zeros, and at most warns. An adapter that a download or an
upgrade has damaged would then answer as the bare model.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import regex
import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from whinchat.errors import ModelError
from whinchat.models.adapter_kinds import adapter_sizes
from whinchat.models.weight_checks import FLOATS, is_finite, listed, require_safetensors, shown

_FILE = "adapter_model.safetensors"
# Seconds for matching a pattern with the names of all layers; common patterns take milliseconds.
_MATCHING_SECONDS = 1.0
_LONGEST_PATTERN = 10_000
# Counted repetitions of groups and of repetitions, and large counts, for which matchers build a state each.
_COUNTED = re.compile(r"[)}?*+]\s*\{|\{\s*\d*\s*,?\s*\d{3,}")
# PEFT takes these as patterns, too, and whinchat takes names only.
_NAMED = ("modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern")
_NAME = re.compile(r"[\w.\-]+")
# What PEFT raises for an adapter of another model, or for a damaged one.
_LOADING_FAULTS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, OSError,
    ImportError, MemoryError, SafetensorError,
)  # fmt: skip


def load_whole_adapter(model: PreTrainedModel | PeftModel, config: PeftConfig, folder: Path, name: str) -> PeftModel:
    """Attach the adapter in ``folder`` to ``model`` with all its weights.

    Args:
        model: the model, with or without adapters; PEFT changes it in place.
        config: the configuration in ``folder``.
        folder: the folder of the adapter.
        name: name of the adapter in the model.

    Raises:
        ModelError: weights are missing, unexpected, of another shape or kind than the configuration asks for, or not
            finite; or the file cannot be read.
    """
    require_safetensors(folder, _FILE, str(folder))
    _check_sizes(config, folder)
    _resolve_patterns(config, model, folder)
    # LoRA's fresh weights take no memory and no time: they are replaced by those of the file. DoRA makes its magnitudes
    # from the frozen weights, and adapters that were loaded without that answered differently in bfloat16 and NF4.
    options = {"low_cpu_mem_usage": config.peft_type == "LORA" and not config.use_dora}
    base = {id(parameter) for parameter in model.parameters()}
    try:
        if isinstance(model, PeftModel):
            tuned = model
            tuned.add_adapter(name, config, **options)
        else:
            tuned = PeftModelForCausalLM(model, config, name, **options)
        with _checked(tuned, base, folder):
            tuned.load_adapter(str(folder), name, **options)
    except KeyError as error:
        raise _misfit(folder, f"it has no weights for {shown(error.args[0] if error.args else error)}") from error
    except _LOADING_FAULTS as error:
        raise _misfit(folder, " ".join((str(error).strip() or type(error).__name__).split("\n")[0].split())) from error
    return tuned


@contextmanager
def _checked(model: PeftModel, base: set[int], folder: Path) -> Iterator[None]:
    """Check the weights that are loaded into ``model`` inside the context, named as the model names them.

    Args:
        model: the model with the fresh adapter.
        base: ids of the parameters that it had before.
        folder: the folder of the adapter.
    """
    asked: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        # AdaLoRA computes its number of ranks from the configuration.
        if id(parameter) not in base and ".ranknum." not in name:
            asked.setdefault(id(parameter), []).append(name)

    def check(_: Any, state: dict[str, Tensor], *__: Any) -> None:
        own = model.state_dict()
        if unknown := sorted(state.keys() - own.keys()):
            raise _misfit(folder, f"it has weights for {listed(unknown)}, which the model and its settings lack")
        if missing := [names[0] for names in asked.values() if not state.keys() & set(names)]:
            raise _misfit(folder, f"it has no weights for {listed(missing)}")
        if wrong := [name for name, tensor in state.items() if tensor.shape != own[name].shape]:
            shapes = f"{tuple(state[wrong[0]].shape)} where the model has {tuple(own[wrong[0]].shape)}"
            raise _misfit(folder, f"weights of another shape for {listed(wrong)}: {shapes}")
        if wrong := [name for name, tensor in state.items() if not _same_kind(tensor, own[name])]:
            raise _misfit(folder, f"weights of type {state[wrong[0]].dtype} for {listed(wrong)}, which are no floats")
        if wrong := [name for name, tensor in state.items() if not is_finite(tensor.to(own[name].dtype))]:
            raise ModelError(
                f"{folder}: NaN or infinity in the weights of {listed(wrong)}; the file is damaged or its training "
                "diverged, so load another copy or train again"
            )
        names_of_base = {name for name, parameter in model.named_parameters() if id(parameter) in base}
        for name in state.keys() & names_of_base:
            # PEFT saves copies of embeddings and output layers beside their adapters.
            copy = state.pop(name).to(own[name])
            if not torch.equal(copy, own[name]):
                raise _misfit(folder, f"it brings its own weights of the base model for {name}, which differ")

    handle = model.register_load_state_dict_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _same_kind(stored: Tensor, own: Tensor) -> bool:
    """Return whether ``stored`` holds floats where ``own`` does, and integers where ``own`` does."""
    return stored.dtype in FLOATS if own.is_floating_point() else not stored.is_floating_point()


def _check_sizes(config: PeftConfig, folder: Path) -> None:
    """Check the sizes in ``config`` against the file, so that nothing huge is allocated for a small file."""
    try:
        with safe_open(folder / _FILE, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  # a file is no mapping
    except (SafetensorError, OSError) as error:
        raise _misfit(folder, f"{_FILE} cannot be read: {str(error).splitlines()[0]}") from error
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    for setting, size in adapter_sizes(config):
        if size > elements:
            raise _misfit(folder, f"{setting} is {size}, and its file has {elements} numbers in all")


def _resolve_patterns(config: Any, model: Any, folder: Path) -> None:
    """Replace patterns in ``config`` by the names that they match, since PEFT would match without a time limit."""
    for field in _NAMED:
        value = getattr(config, field, None) or ()
        for pattern in value if isinstance(value, list | tuple | set | dict) else (value,):
            if not isinstance(pattern, str) or not _NAME.fullmatch(pattern):
                raise _misfit(folder, f"{field} has {shown(pattern)}, which is no name of a layer")
    core = model.get_base_model() if isinstance(model, PeftModel) else model
    names = [name.replace(".base_layer", "") for name, _ in core.named_modules()]
    for field in ("target_modules", "exclude_modules"):
        pattern = getattr(config, field, None)
        if not isinstance(pattern, str) or pattern == "all-linear":
            continue
        matched = _matching(pattern, names)
        if isinstance(matched, str):
            raise _misfit(folder, f"its pattern in {field} {matched}: {shown(pattern)}")
        if not matched and field == "target_modules":
            raise _misfit(folder, f"its pattern in target_modules matches no layer: {shown(pattern)}")
        setattr(config, field, matched or None)


def _matching(pattern: str, names: list[str]) -> set[str] | str:
    """Return those of ``names`` that ``pattern`` matches, or what is wrong with the pattern."""
    if len(pattern) > _LONGEST_PATTERN:
        return f"has {len(pattern)} characters, more than {_LONGEST_PATTERN}"
    if _COUNTED.search(pattern):
        return "repeats something a number of times, which can take any amount of memory"
    deadline = time.monotonic() + _MATCHING_SECONDS
    try:
        compiled = regex.compile(pattern)
        return {name for name in names if compiled.fullmatch(name, timeout=max(1e-3, deadline - time.monotonic()))}
    except TimeoutError:
        return "takes too long"
    except (regex.error, RecursionError, OverflowError) as error:
        return f"is not valid ({error})"


def _misfit(folder: Path, reason: str) -> ModelError:
    return ModelError(f"{folder}: does not fit this model ({reason}); load it onto the model that it was trained on")
