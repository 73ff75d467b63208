"""The sections of a recipe that say which model is adapted, and by which adapter."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from whinchat.recipe.field_types import Integer, LayerName, NonEmpty, Real, Section, Text


class BackboneConfig(Section):
    """The chat model that is adapted, and the data types of its weights and products."""

    model: NonEmpty = Field(
        description="A model on the Hugging Face hub (OWNER/NAME), a local folder, or package:NAME for a file inside a "
        "PyPI package."
    )
    revision: Text | None = Field(None, description="Commit, tag or branch of a hub model; runs record the commit.")
    layers: Integer | None = Field(
        None, ge=1, description="Keep only the first N layers of the model, so that training and answers cost less."
    )
    load_in: Literal["auto", "float32", "bfloat16", "float16", "nf4"] = Field(
        "auto",
        description="Data type of the frozen weights in memory. auto takes bfloat16 on a machine that multiplies "
        "bfloat16 fast, and float32 elsewhere; nf4 is the 4-bit type of QLoRA, which needs the extra "
        "whinchat[nf4].",
    )
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Data type of matrix products; auto follows load_in and the machine."
    )
    double_quant: bool = Field(
        True, description="With load_in: nf4, also quantize the quantization constants (QLoRA, section 3)."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device to compute on; auto takes an accelerator when the machine has one."
    )
    attn_implementation: Literal["auto", "eager", "sdpa"] = Field(
        "auto",
        description="Attention implementation of transformers; auto takes eager on a CPU, where eager is faster on "
        "short texts, and sdpa on accelerators.",
    )
    max_prompt_tokens: Integer = Field(
        512,
        ge=16,
        description="Longest prompt in tokens. A longer text is truncated at its end; the rest stays whole.",
    )

    @model_validator(mode="after")
    def _dtypes(self) -> Self:
        if self.load_in in {"bfloat16", "float16"} and self.compute_dtype not in {"auto", self.load_in}:
            raise ValueError(
                f"compute_dtype: weights held in {self.load_in} are multiplied in it, found {self.compute_dtype}; "
                "set compute_dtype: auto, or load_in to float32 or nf4"
            )
        return self


class AdapterConfig(Section):
    """The adapter that is trained; the names are those of ``peft.LoraConfig``."""

    method: Literal["lora", "dora", "rslora"] = Field(
        "lora", description="Kind of adapter. With backbone.load_in: nf4, lora is QLoRA and dora is QDoRA."
    )
    init: Literal["default", "pissa"] = Field(
        "default",
        description="Initial weights of the adapter: default leaves the model unchanged at first (B = 0), pissa takes "
        "the principal singular vectors of each weight.",
    )
    r: Integer = Field(16, ge=1, le=1024, description="Rank of the adapter.")
    lora_alpha: Real = Field(
        32, gt=0, description="Scale of the adapter: its update is multiplied by lora_alpha / r (rslora: / sqrt(r))."
    )
    lora_dropout: Real = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input during training.")
    target_modules: Literal["all-linear"] | tuple[LayerName, ...] = Field(
        "all-linear",
        description="Names of the linear layers that get an adapter, or all-linear for every linear layer but the "
        "output layer.",
    )
    layers_to_transform: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Numbers of the layers that get an adapter, counted from 0; null for all. With the upper layers "
        "alone, training needs no backward pass below them.",
    )
    target_parameters: tuple[LayerName, ...] = Field(
        (),
        description="Names of weights outside the linear layers that get an adapter, too, such as the experts' "
        "experts.gate_up_proj and experts.down_proj; only for method lora or rslora without dropout.",
    )

    @model_validator(mode="after")
    def _targets(self) -> Self:
        if self.target_modules == () and not self.target_parameters:
            raise ValueError("target_modules: the list is empty, so nothing would train; name layers or use all-linear")
        refused = {"method: dora": self.method == "dora", "init: pissa": self.init == "pissa"}
        refused |= {"lora_dropout": self.lora_dropout > 0, "layers_to_transform": self.layers_to_transform is not None}
        if self.target_parameters and any(refused.values()):
            raise ValueError(
                "target_parameters: PEFT adapts such weights by plain LoRA only, so "
                f"{' and '.join(name for name in refused if refused[name])} cannot be used with them; remove either"
            )
        return self
