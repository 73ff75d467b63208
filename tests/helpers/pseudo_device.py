"""A pretended GPU: tensors that say they are on ``cuda``, compute on the CPU, and refuse to mix with CPU tensors.

It shows on machines without a GPU whether code moves its tensors to the device of the model. It does not show kernels,
speed and memory of a real GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

from whinchat.models.nf4 import unpack_nf4

CUDA = torch.device("cuda", 0)
# Operations that CUDA allows between devices: copies, and indices on the CPU.
_CROSS_DEVICE = {
    torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default, torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default, torch.ops.aten._index_put_impl_.default,
}  # fmt: skip


class PseudoCudaTensor(Tensor):
    """A tensor that says it is on ``cuda`` and computes on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PseudoCudaTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )
        tensor.inner = inner
        return tensor

    device = property(lambda self: CUDA)  # type: ignore[assignment]  # replaces a property of Tensor
    is_cuda = property(lambda self: True)  # type: ignore[assignment]  # replaces a property of Tensor
    is_cpu = property(lambda self: False)  # type: ignore[assignment]  # replaces a property of Tensor

    def __repr__(self, **_: Any) -> str:
        return f"cuda: {self.inner!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute with the inner tensors; raise RuntimeError where a CPU tensor with dimensions takes part."""
        kwargs = kwargs or {}
        for value in tree_flatten((args, kwargs))[0]:
            if isinstance(value, Tensor) and not isinstance(value, cls) and value.dim() and func not in _CROSS_DEVICE:
                raise RuntimeError(f"{func}: expected all tensors on one device, found cuda and {value.device}")
        inner_args, inner_kwargs = tree_map_only(cls, lambda tensor: tensor.inner, (args, kwargs))
        if func is torch.ops.aten.mm.dtype:  # only CUDA has a kernel
            first, second, dtype = inner_args
            result = torch.mm(first.to(dtype), second.to(dtype))
        else:
            result = func(*inner_args, **inner_kwargs)
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, cls, result))


class _PseudoCuda(TorchFunctionMode):
    """Serves ``device="cuda"`` and moves between devices."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.numpy and isinstance(args[0], PseudoCudaTensor):
            raise TypeError("can't convert cuda device type tensor to numpy; use Tensor.cpu()")
        if func is Tensor.tolist and isinstance(args[0], PseudoCudaTensor):
            return args[0].inner.tolist()
        if func is Tensor.cpu or (func is Tensor.to and _device_among(args[1:], kwargs) == "cpu"):
            tensor = args[0].inner if isinstance(args[0], PseudoCudaTensor) else args[0]
            return func(tensor, *args[1:], **kwargs)
        if func is torch.device or _device_among(args, kwargs) != "cuda":
            return func(*args, **kwargs)
        on_cpu = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
        args, kwargs = tree_map_only(str, lambda name: "cpu" if name.startswith("cuda") else name, on_cpu)
        if func is Tensor.to and isinstance(args[0], PseudoCudaTensor):
            others = [value for value in args[1:] if not isinstance(value, torch.device | str)]
            options = {name: value for name, value in kwargs.items() if name not in ("device", "non_blocking")}
            return func(args[0], *others, **options) if others or options else args[0]
        return tree_map_only(Tensor, to_pseudo_cuda, func(*args, **kwargs))


def _device_among(args: Any, kwargs: Any) -> str | None:
    """Return the type of the device that a call names, if it names one."""
    for value in (*args, kwargs.get("device")):
        if isinstance(value, torch.device):
            return value.type
        if isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda"):
            return value.partition(":")[0]
    return None


@contextmanager
def pseudo_cuda() -> Iterator[None]:
    """Let ``device="cuda"`` mean the pretended GPU inside the context."""
    with _PseudoCuda():
        yield


def to_pseudo_cuda(tensor: Tensor) -> Tensor:
    """Return ``tensor`` on the pretended GPU."""
    return tensor if isinstance(tensor, PseudoCudaTensor) else PseudoCudaTensor(tensor.detach())


def unpack_pseudo_nf4(weight: Any) -> Tensor:
    """Take the place of ``unpack_nf4``, since bitsandbytes calls CUDA itself."""
    packed = nn.Parameter(weight.data.inner, requires_grad=False)
    packed.quant_state = weight.quant_state
    return to_pseudo_cuda(unpack_nf4(packed).clone())


def move_to_pseudo_cuda(model: nn.Module) -> nn.Module:
    """Move every weight and buffer of ``model`` to the pretended GPU, in place; tied weights stay tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                new = nn.Parameter(to_pseudo_cuda(parameter.data), requires_grad=parameter.requires_grad)
                if hasattr(parameter, "quant_state"):
                    new.quant_state = parameter.quant_state  # stays on the CPU, where ``unpack_pseudo_nf4`` reads it
                module._parameters[name] = moved.setdefault(id(parameter), new)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = to_pseudo_cuda(buffer)
    return model
