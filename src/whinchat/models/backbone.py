"""Find the chat model of a recipe, and load it frozen."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry, fetch_package_file
from whinchat.errors import ModelError
from whinchat.models.backbone_traits import BackboneTraits
from whinchat.models.checkpoint_loading import (
    checkpoint_files,
    load_streamed,
    misshapen_weights,
    nonfinite_weights,
    unused_weights,
)
from whinchat.models.config_checks import CONFIG_FAULTS, first_line
from whinchat.models.device import DevicePlan, plan_device
from whinchat.models.gguf_import import converted_folder
from whinchat.models.json_files import JsonFileError, read_json_object
from whinchat.models.lm_head import FloatHead
from whinchat.models.memory import bound_onednn_cache, reuse_freed_memory
from whinchat.models.model_class import causal_model_class, fit_attention, fit_float16, nf4_notes
from whinchat.models.nf4 import require_bitsandbytes
from whinchat.models.requirements import ENCODER_FILE, ModelSection, local_model_folder
from whinchat.models.shallow_model import shallow_folder
from whinchat.models.tokenizer_loading import read_tokenizer
from whinchat.models.weight_checks import listed
from whinchat.prompts.chat_tokenizer import ChatTokenizer
from whinchat.recipe.model_config import BackboneConfig

# What works where the hub is out of reach, by the section of the settings that names a model.
_WITHOUT_HUB = {"backbone": "`whinchat run demo`", "encoder": "package:all-minilm-l6-v2"}
# Suffixes of a model folder's weights, configurations, tokenizer files and chat templates.
_DIGESTED = {".bin", ".gguf", ".jinja", ".json", ".model", ".pt", ".pth", ".safetensors", ".tiktoken", ".txt"}


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and what identifies it.

    Attributes:
        name: ``backbone.model`` of the recipe.
        path: a local folder or OWNER/NAME on the hub, as ``from_pretrained`` takes it.
        revision: the commit to load from the hub; None for a folder.
        commit: the hub's commit, or the SHA-256 of the package file or of the folder's files.
        license: the model's license, where it is known.
        hub_id: OWNER/NAME of the same model on the hub; None for a local folder.
    """

    name: str
    path: str
    revision: str | None
    commit: str | None
    license: str | None
    hub_id: str | None


@dataclass(frozen=True)
class Backbone:
    """A frozen model and its tokenizer, the plan it was loaded by, its source, and the traits to recognize it by."""

    model: PreTrainedModel
    tokenizer: ChatTokenizer
    plan: DevicePlan
    source: ModelSource
    traits: BackboneTraits


def find_model(backbone: BackboneConfig, section: ModelSection = "backbone") -> ModelSource:
    """Find the model of a recipe and what identifies its content; fetch and convert a package's model.

    With ``backbone.layers``, the path is that of a folder with the first layers, which is written where it is missing.

    Args:
        backbone: the section of the recipe, or the model and revision of an arena's encoder.
        section: the section that messages name.

    Raises:
        ModelError: there is no such folder or hub model, the hub is out of reach and the model is not in its cache, or
            the model cannot be cut to its first layers.
        DataError: there is no such package, or its file cannot be fetched.
        OutputError: the folder of the first layers cannot be written.
    """
    source = _find_whole_model(backbone, section)
    if backbone.layers is None:
        return source
    folder = shallow_folder(source.path, source.revision, str(source.commit), backbone.layers, source.name)
    return replace(source, path=str(folder), revision=None)


def _find_whole_model(backbone: BackboneConfig, section: ModelSection) -> ModelSource:
    name = backbone.model
    if name.startswith(PACKAGE_PREFIX):
        entry = catalog_entry(name.removeprefix(PACKAGE_PREFIX))
        folder = package_folder(name)
        return ModelSource(name, str(folder), None, entry.sha256, entry.license, entry.hub_id)
    if (local := local_model_folder(name, section)) is not None:
        try:
            read_json_object(local / "config.json")
        except JsonFileError as error:
            raise ModelError(f"{name}: config.json cannot be loaded: {error}") from error
        return ModelSource(name, str(local), None, _folder_digest(local), None, None)
    return _find_on_hub(name, backbone.revision, section)


def package_folder(name: str) -> Path:
    """Return the folder of the model ``package:NAME``; fetch its file, and convert a GGUF file, where it is missing.

    Raises:
        DataError: there is no such package, or its file cannot be fetched.
    """
    file = fetch_package_file(catalog_entry(name.removeprefix(PACKAGE_PREFIX)).name)
    return file.parent if file.name == ENCODER_FILE else converted_folder(file)


def load_tokenizer(source: ModelSource, trained: Path | None = None) -> ChatTokenizer:
    """Load the tokenizer of ``source`` without the model's weights.

    Args:
        source: the model.
        trained: folder of a classifier that was trained on the model; its tokenizer is used where it holds one, so that
            it gets the token ids of its training.

    Raises:
        ModelError: there is no tokenizer.json, or this release of transformers cannot read the tokenizer.
    """
    revision = source.revision or "main"
    if trained is not None and (trained / "tokenizer.json").is_file():
        tokenizer = read_tokenizer(str(trained), "main", str(trained))
    else:
        tokenizer = read_tokenizer(source.path, revision, source.name)
    try:
        configured = GenerationConfig.from_pretrained(source.path, revision=revision).eos_token_id
    except OSError as error:
        if (Path(source.path) / "generation_config.json").is_file():
            raise ModelError(f"{source.name}: generation_config.json cannot be read: {first_line(error)}") from error
        configured = None  # a generation config is optional
    except CONFIG_FAULTS as error:
        raise ModelError(f"{source.name}: generation_config.json cannot be read: {first_line(error)}") from error
    ids = configured if isinstance(configured, list) else [configured]
    return ChatTokenizer(tokenizer, frozenset({*ids, tokenizer.eos_token_id} - {None}))


def load_backbone(backbone: BackboneConfig, source: ModelSource | None = None, trained: Path | None = None) -> Backbone:
    """Load tokenizer and weights, frozen and in evaluation mode.

    Args:
        backbone: the section of the recipe.
        source: what ``find_model`` returned for it; None to find the model here.
        trained: see ``load_tokenizer``.

    Raises:
        ModelError: this machine lacks the device, the model cannot be found or loaded, or NF4 can hold nothing of it.
        DataError: as ``find_model`` raises it.
    """
    plan = plan_device(backbone)
    if plan.load_in == "nf4":
        require_bitsandbytes()
    source = source or find_model(backbone)
    model_class = _model_class(source)
    plan = fit_float16(fit_attention(plan, backbone.attn_implementation, model_class), model_class)
    tokenizer = load_tokenizer(source, trained)
    options: dict[str, Any] = {
        # With NF4 this is the data type of the unquantized weights: embeddings and norms.
        "dtype": plan.torch_dtype if plan.load_in == "nf4" else getattr(torch, plan.load_in),
        "attn_implementation": plan.attn_implementation,
        "device_map": {"": plan.device},
        "use_safetensors": True,
    }
    if plan.load_in == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=plan.double_quant,
            bnb_4bit_compute_dtype=plan.torch_dtype,
        )
    model, traits = _load_model(source, options)
    if plan.load_in == "nf4":
        plan = replace(plan, notes=(*plan.notes, *nf4_notes(model, source.name)))
    if plan.device == "cpu":
        reuse_freed_memory()
        bound_onednn_cache()
    model.requires_grad_(False)
    _keep_nf4_layout(model)
    if plan.compute_dtype != "float32":
        model.set_output_embeddings(FloatHead(model.get_output_embeddings()))
    return Backbone(model.eval(), tokenizer, plan, source, traits)


def _model_class(source: ModelSource) -> type[PreTrainedModel]:
    try:
        return causal_model_class(source.path, source.revision, source.name)
    except (*CONFIG_FAULTS, HTTPError) as error:
        raise ModelError(f"{source.name}: config.json cannot be loaded: {first_line(error)}") from error


def _load_model(source: ModelSource, options: dict[str, Any]) -> tuple[PreTrainedModel, BackboneTraits]:
    on_cpu, revision = options["device_map"] == {"": "cpu"}, source.revision or "main"
    try:
        files = checkpoint_files(source.path, source.revision, source.name)
        with _without_bar():
            loaded = load_streamed(source.path, source.revision, options) if on_cpu else None
            model, loading_info = loaded or AutoModelForCausalLM.from_pretrained(
                source.path,
                revision=revision,
                output_loading_info=True,
                trust_remote_code=False,
                **options,
            )
    except (*CONFIG_FAULTS, SafetensorError, HTTPError) as error:
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"{source.name}: cannot be loaded: its files hold weights of other shapes than config.json says; fetch "
                "the model again"
            ) from error
        raise ModelError(f"{source.name}: cannot be loaded: {first_line(error)}") from error
    faults = {
        # transformers gives missing weights random values and continues.
        "its files lack": sorted(loading_info["missing_keys"]),
        "its files have weights that the model of config.json lacks:": unused_weights(loading_info),
        "weights of another shape than config.json says:": misshapen_weights(model),
        "NaN or infinity in": nonfinite_weights(model, files, quantizes="quantization_config" in options),
    }
    for fault, names in faults.items():
        if names:
            raise ModelError(f"{source.name}: cannot be loaded: {fault} {listed(names)}; fetch the model again")
    return model, BackboneTraits.read(model, files)


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hide transformers' own progress bar, which knows no terminal from a log; whinchat shows the stages itself."""
    was_shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            enable_progress_bar()


def _keep_nf4_layout(model: PreTrainedModel) -> None:
    """Keep NF4 weights in the layout in which they are loaded.

    On CPUs with AVX512-BF16, bitsandbytes repacks a weight in place at its first forward pass without gradients, and
    rounds its scales. Only the kernel of that pass reads the new layout; dequantizing the weight afterwards, as PiSSA,
    DoRA and merging do, returns noise.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _find_on_hub(name: str, revision: str | None, section: ModelSection) -> ModelSource:
    try:
        info = HfApi().model_info(name, revision=revision, timeout=10)
    except HfHubHTTPError as error:
        raise ModelError(
            f"{name}: the hub does not serve this model ({first_line(error)}), and here is no such folder; check "
            f"the name and {section}.revision, and log in with `hf auth login` if the model is private or gated"
        ) from error
    except (HTTPError, OSError, OfflineModeIsEnabled) as error:
        try:
            folder = snapshot_download(name, revision=revision, local_files_only=True)
        except LocalEntryNotFoundError:
            raise ModelError(
                f"{name}: the Hugging Face hub is out of reach ({type(error).__name__}), the model is not in "
                f"its cache, and here is no such folder; {_WITHOUT_HUB[section]} needs no hub, or set {section}.model "
                "to a local folder"
            ) from error
        return ModelSource(name, folder, None, Path(folder).name, None, name)
    card = info.card_data
    return ModelSource(name, name, info.sha, info.sha, card.license if card else None, name)


def _folder_digest(folder: Path) -> str:
    """Return one SHA-256 of the names and contents of the folder's files that can change what the model computes."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.suffix in _DIGESTED and file.is_file()):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
