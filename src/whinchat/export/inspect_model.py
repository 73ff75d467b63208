"""Say what whinchat does with a model, exports included, from its configuration and tokenizer: no weight is read."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from httpx2 import HTTPError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from whinchat.data.packages import PACKAGE_PREFIX
from whinchat.errors import ModelError, WhinchatError
from whinchat.export.gguf_writer import require_convertible
from whinchat.export.sequence_classifier import head_fault
from whinchat.models.adapter_targets import plan_adapter
from whinchat.models.backbone import ModelSource, load_tokenizer, package_folder
from whinchat.models.capabilities import check_known_faults, check_length, continues_from_cache
from whinchat.models.config_checks import CONFIG_FAULTS
from whinchat.models.device import DevicePlan, plan_device
from whinchat.models.model_class import causal_model_class, fit_attention, fit_float16
from whinchat.models.packed.packed_forward import is_packable
from whinchat.models.shallow_model import SHALLOW_TYPES
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig
from whinchat.recipe.task import Task

Way = Literal["packed", "cached prefix", "whole sequences"]
T = TypeVar("T")

# The task of the prompt that is tried.
_TASK = Task(name="probe", labels=("negative", "positive"), instruction="Answer with one word.")
_BATCH = BatchShape(rows=16)


@dataclass(frozen=True)
class ModelReport:
    """What whinchat does with a model on this machine.

    Attributes:
        model: name of the model.
        architecture: its class in transformers.
        parameters: number of its parameters.
        shallow: whether ``backbone.layers`` can keep its first layers alone.
        held_as: data type of its weights on this machine.
        way: how logits are computed: "packed" is the fast pass; "cached prefix" is the model's own pass behind a prefix
            that is computed once; "whole sequences" is the model's own pass over each text and answer.
        adapted_share: share of the parameters in layers that get an adapter with ``target_modules: all-linear``.
        needed_bytes: estimated memory for training a LoRA adapter of rank 16 on batches of 16 short texts.
        notes: sentences about the device plan, the adapter and the prompt.
        exports: for each export format "yes", or why there is none.
        refused: why the model cannot be used, one sentence each; empty if it can.
    """

    model: str
    architecture: str
    parameters: int
    shallow: bool
    held_as: str
    way: Way
    adapted_share: float | None
    needed_bytes: float
    notes: tuple[str, ...]
    exports: dict[str, str]
    refused: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def inspect_model(model: str, revision: str | None = None) -> ModelReport:
    """Say what whinchat does with ``model`` on this machine.

    Args:
        model: a local folder, ``package:NAME``, or OWNER/NAME on the Hugging Face hub, of which only the configuration
            and the tokenizer are downloaded.
        revision: commit, tag or branch on the hub.

    Raises:
        ModelError: there is no such model, or transformers has no causal language model for it.
        DataError: there is no such package, or its file cannot be fetched.
    """
    backbone, adapter = BackboneConfig(model=model, revision=revision), AdapterConfig()
    source = ModelSource(model, _location(model), revision, None, None, None)
    try:
        model_class = causal_model_class(source.path, revision, model)
        config = AutoConfig.from_pretrained(source.path, revision=revision or "main", trust_remote_code=False)
    except (*CONFIG_FAULTS, HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{model}: its configuration cannot be read: {reason}; check the name") from error
    plan = fit_attention(plan_device(backbone), backbone.attn_implementation, model_class)
    plan = fit_float16(plan, model_class)
    with torch.device("meta"):
        attention = plan.attn_implementation
        skeleton = AutoModelForCausalLM.from_config(
            config, dtype=plan.torch_dtype, attn_implementation=attention, trust_remote_code=False
        )
    refused: list[str] = []
    _attempt(refused, lambda: check_known_faults(skeleton))
    _attempt(refused, lambda: check_length(skeleton, backbone.max_prompt_tokens, nodes=1))
    attached = _attempt(refused, lambda: plan_adapter(skeleton, adapter))
    template = _attempt(refused, lambda: _template(source, backbone))
    return ModelReport(
        model=model,
        architecture=type(skeleton).__name__,
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        shallow=config.model_type in SHALLOW_TYPES,
        held_as=plan.load_in,
        way=_way(skeleton, plan),
        adapted_share=attached.adapted_share if attached else None,
        needed_bytes=estimate_training_bytes(skeleton, plan, adapter, _BATCH),
        notes=(*plan.notes, *(attached.notes if attached else ()), *_prompt_notes(template)),
        exports=_exports(skeleton, template, model),
        refused=tuple(refused),
    )


def _location(model: str) -> str:
    """Return what ``from_pretrained`` takes for ``model``."""
    if model.startswith(PACKAGE_PREFIX):
        return str(package_folder(model))
    local = Path(model).expanduser()
    return str(local) if local.is_dir() else model


def _attempt(refused: list[str], action: Callable[[], T]) -> T | None:
    """Return the result of ``action``; add the message to ``refused`` where whinchat refuses it."""
    try:
        return action()
    except WhinchatError as error:
        refused.append(str(error))
        return None


def _template(source: ModelSource, backbone: BackboneConfig) -> PromptTemplate:
    chat = load_tokenizer(source)
    return PromptTemplate(
        chat.tokenizer,
        _TASK,
        end_ids=chat.end_ids,
        max_prompt_tokens=backbone.max_prompt_tokens,
        model=source.name,
    )


def _way(skeleton: PreTrainedModel, plan: DevicePlan) -> Way:
    with torch.no_grad():
        if is_packable(skeleton, plan):
            return "packed"
    return "cached prefix" if continues_from_cache(skeleton) else "whole sequences"


def _prompt_notes(template: PromptTemplate | None) -> list[str]:
    if template is None:
        return []
    notes = []
    if template.task.date:
        notes.append("the chat template states the date; a run fixes it, and its classifier keeps it")
    if not template.system_role:
        notes.append("the chat template has no system role; the instruction opens the user turn")
    return notes


def _exports(skeleton: PreTrainedModel, template: PromptTemplate | None, model: str) -> dict[str, str]:
    """Return for each export format "yes", or why there is none."""
    config: Any = skeleton.config
    head = "yes, for answers of one token"
    if fault := head_fault(config):
        head = f"no: {fault}"
    elif getattr(config.get_text_config(decoder=True), "final_logit_softcapping", None):
        head = "no: a classification head has no soft cap"
    refused: list[str] = []
    if template is not None:
        _attempt(refused, lambda: require_convertible(config, template, model))
    gguf = "no: there is no prompt" if template is None else f"no: {refused[0]}" if refused else "yes"
    return {"merged": "yes", "classifier": head, "onnx": head, "gguf": gguf}
