"""The families of models that the packed forward pass supports, by their transformers class."""

from typing import Any

from torch import nn

from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.gemma import GemmaArchitecture
from whinchat.models.packed.gemma2 import Gemma2Architecture
from whinchat.models.packed.gemma3 import Gemma3Architecture, Gemma3WithVisionArchitecture
from whinchat.models.packed.granite import GraniteArchitecture
from whinchat.models.packed.granite4 import Granite4Architecture
from whinchat.models.packed.llama import LlamaArchitecture
from whinchat.models.packed.ministral import MinistralArchitecture
from whinchat.models.packed.ministral3 import Ministral3Architecture
from whinchat.models.packed.mistral import MistralArchitecture
from whinchat.models.packed.olmo2 import Olmo2Architecture
from whinchat.models.packed.olmo3 import Olmo3Architecture
from whinchat.models.packed.phi3 import Phi3Architecture
from whinchat.models.packed.qwen2 import Qwen2Architecture
from whinchat.models.packed.qwen3 import Qwen3Architecture
from whinchat.models.packed.smollm3 import SmolLM3Architecture

_ARCHITECTURES: dict[type[nn.Module], PackedArchitecture] = {}


def register_packed_architecture(architecture: PackedArchitecture) -> None:
    """Let models of ``architecture.model_class`` take the packed forward pass.

    Raises:
        ValueError: an architecture is registered for this class already.
    """
    if architecture.model_class in _ARCHITECTURES:
        raise ValueError(
            f"{architecture.model_class.__name__}: a packed architecture is registered already; "
            "call unregister_packed_architecture first to replace it"
        )
    _ARCHITECTURES[architecture.model_class] = architecture


def unregister_packed_architecture(model_class: type[nn.Module]) -> None:
    """Let models of ``model_class`` go the plain way again.

    Raises:
        KeyError: no architecture is registered for this class.
    """
    del _ARCHITECTURES[model_class]


def packed_architecture_of(model: Any) -> PackedArchitecture | None:
    """Return the architecture registered for exactly the class of ``model``; None where there is none."""
    return _ARCHITECTURES.get(type(model))


for family in (
    GemmaArchitecture,
    Gemma2Architecture,
    Gemma3Architecture,
    Gemma3WithVisionArchitecture,
    GraniteArchitecture,
    Granite4Architecture,
    LlamaArchitecture,
    MinistralArchitecture,
    Ministral3Architecture,
    MistralArchitecture,
    Olmo2Architecture,
    Olmo3Architecture,
    Phi3Architecture,
    Qwen2Architecture,
    Qwen3Architecture,
    SmolLM3Architecture,
):
    register_packed_architecture(family())
