"""Names of fine-tuning methods, as the literature has them."""

from whinchat.recipe.model_config import AdapterConfig

_METHOD_NAMES = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}


def method_name(adapter: AdapterConfig, load_in: str) -> str:
    """The method as the literature names it: QLoRA for LoRA on 4-bit weights, and so on."""
    name = _METHOD_NAMES[adapter.method]
    if load_in == "nf4":
        name = f"Q{name}" if adapter.method in {"lora", "dora"} else f"{name} on NF4"
    return f"{name} from PiSSA" if adapter.init == "pissa" else name
