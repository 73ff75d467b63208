"""Build the table at the top of card and report: model, method, training, data and hardware at a glance."""

from pathlib import Path

from whinchat.data.dataset import SOFT_SPLIT
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe, TrainConfig
from whinchat.report.formatting import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_duration,
    format_percent,
)
from whinchat.report.text_table import TextTable
from whinchat.report.titles import base_depth
from whinchat.storage.run_record import Manifest, TrainedRecord
from whinchat.wording import counted


def key_facts_table(record: TrainedRecord, base: str | None = None) -> TextTable:
    """Return the facts that a reader looks for first; ``base`` is the hub id of the base model, if it has one."""
    recipe, manifest = record.recipe, record.manifest
    seconds = manifest.timings_seconds.get("train")
    rows = (
        ("base model", f"{base or manifest.model_source}{base_depth(recipe)}"),
        ("method", _method(recipe, manifest.load_in)),
        ("trained weights", _trained_weights(manifest)),
        ("training data", _training_data(recipe, manifest)),
        ("training", _training(recipe.train)),
        ("hardware", hardware(manifest)),
        ("data types", f"weights in {manifest.load_in}, computation in {manifest.compute_dtype}"),
        ("training time", format_duration(seconds)),
        ("peak memory", peak_memory(manifest)),
    )
    return TextTable("Key facts", ("fact", "value"), rows, numeric=False)


def hardware(manifest: Manifest) -> str:
    """Return the device that the run computed on: a GPU with its memory, or a processor with its cores."""
    if manifest.accelerator is not None:
        return f"{manifest.accelerator} ({format_bytes(manifest.accelerator_memory_bytes)} of memory)"
    processor, cores = manifest.platform.get("processor"), manifest.platform.get("cores")
    if manifest.device != "cpu":
        return manifest.device  # records of earlier versions do not name the GPU
    return ", ".join(["CPU", *filter(None, [processor, cores and f"{cores} cores"])])


def peak_memory(manifest: Manifest) -> str:
    """Return the peak memory of the process, and on a GPU that of the device."""
    process = format_bytes(manifest.peak_memory_bytes)
    if manifest.peak_accelerator_bytes is None:
        return process
    return f"{format_bytes(manifest.peak_accelerator_bytes)} on the GPU, {process} in main memory"


def _method(recipe: Recipe, load_in: str) -> str:
    adapter = recipe.adapter
    modules = (adapter.target_modules,) if isinstance(adapter.target_modules, str) else adapter.target_modules
    targets = ", ".join((*modules, *adapter.target_parameters))
    layers = adapter.layers_to_transform
    where = "" if layers is None else f" in the layers {', '.join(map(str, layers))}, counted from 0"
    return (
        f"{method_name(adapter, load_in)} with rank {adapter.r}, lora_alpha {adapter.lora_alpha:g} and dropout "
        f"{adapter.lora_dropout:g} on {targets}{where}"
    )


def _trained_weights(manifest: Manifest) -> str:
    total = manifest.parameters
    share = format_percent(manifest.trainable_parameters / total if total else None)
    adapted = format_percent(manifest.adapted_share)
    return (
        f"{format_count(manifest.trainable_parameters)} of {format_count(total)} ({share}); share of the base model's "
        f"weights in layers with an adapter: {adapted}"
    )


def _training_data(recipe: Recipe, manifest: Manifest) -> str:
    train = manifest.splits.get("train")
    texts = NOT_MEASURED if train is None else counted(train.rows, "text")
    config = f" ({recipe.data.config})" if recipe.data.config else ""
    soft = manifest.splits.get(SOFT_SPLIT)
    # The card is published, and folders of this machine are not.
    table = Path(recipe.data.soft_labels or "").name
    taught = f"; {counted(soft.rows, 'text')} with soft labels of {table}" if soft is not None else ""
    return f"{texts} of {manifest.data_source}{config}{_row_limit(recipe.data.train_rows)}{taught}"


def _row_limit(rows: float | None) -> str:
    if rows is None:
        return ""
    return f", from the first {f'{format_percent(rows)} of the' if rows < 1 else format_count(int(rows))} rows"


def _training(train: TrainConfig) -> str:
    epochs = f"{train.num_train_epochs:g} {'epoch' if train.num_train_epochs == 1 else 'epochs'}"
    accumulated = train.gradient_accumulation_steps
    batch = f"{train.per_device_train_batch_size}" + (f" x {accumulated}" if accumulated > 1 else "")
    steps = f", at most {format_count(train.max_steps)} steps" if train.max_steps > 0 else ""
    return (
        f"{epochs}{steps}, learning rate {train.learning_rate:g} ({train.lr_scheduler_type}), "
        f"batches of {batch} texts, loss: {train.loss}"
    )
