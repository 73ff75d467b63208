"""The metadata by which the Hugging Face hub lists an adapter, from the record of any run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from whinchat.evaluation.results import Interval
from whinchat.hub.client import HUB_ID
from whinchat.recipe.card_metadata import HUB_LICENSES
from whinchat.recipe.schema import Recipe
from whinchat.report.markdown import Markdown, markdown_link
from whinchat.storage.run_record import Manifest, TrainedRecord


def hub_metadata(
    record: TrainedRecord, base: str | None, title: str, metrics: Sequence[str], results: Sequence[EvalResult]
) -> ModelCardData:
    """Return the metadata of a card, without the fields that are not known.

    Args:
        record: the run.
        base: hub id of the base model; None if it is not known.
        title: title of the card.
        metrics: ids of the metrics that ``results`` may hold.
        results: the measured metrics, for the model-index.
    """
    recipe, manifest = record.recipe, record.manifest
    license_id, license_name, license_link = license_fields(record)
    datasets = dict.fromkeys((*filter(None, [hub_data(manifest)]), *recipe.publish.datasets))
    return ModelCardData(
        license=license_id,
        license_name=license_name,
        license_link=license_link,
        language=recipe.task.language,
        library_name="peft",
        base_model=base,
        base_model_relation=None if base is None else "adapter",
        pipeline_tag="text-classification",
        tags=hub_tags(recipe, manifest.load_in, base),
        datasets=[*datasets] or None,
        metrics=list(metrics),
        model_name=title,
        eval_results=list(results),
    )


def eval_result(
    record: TrainedRecord,
    split: str,
    name: str,
    measured: tuple[str, float],
    arguments: Mapping[str, Any],
    interval: Interval | None,
) -> EvalResult:
    """Return one metric for the model-index.

    Args:
        record: the run.
        split: the split that was measured.
        name: the metric in words.
        measured: id of the metric on the hub, and its value.
        arguments: what tells the metric apart from others with the same id.
        interval: the 95 % interval of the value, if there is one.
    """
    recipe, data_id = record.recipe, hub_data(record.manifest)
    limits = {} if interval is None else {"interval_95": [interval.low, interval.high]}
    return EvalResult(
        task_type="text-classification",
        task_name=recipe.task.name,
        dataset_type=data_id or re.sub(r"[^\w.-]+", "-", recipe.task.name).strip("-") or "data",
        dataset_name=data_id or recipe.task.name,
        dataset_config=recipe.data.config if data_id else None,
        dataset_revision=record.manifest.data_revision if data_id else None,
        dataset_split=split,
        metric_type=measured[0],
        metric_value=measured[1],
        metric_name=name,
        metric_args={**arguments, **limits},
    )


def hub_tags(recipe: Recipe, load_in: str, base: str | None) -> list[str]:
    """Return the tags by which the hub lists an adapter."""
    tags = ["whinchat", "peft", "transformers", recipe.adapter.method]
    tags += ["4-bit"] if load_in == "nf4" else []
    tags += [] if base is None else [f"base_model:adapter:{base}"]
    return [*tags, *recipe.publish.tags]


def hub_link(model: str) -> Markdown:
    """Return a link to ``model`` on the hub."""
    return markdown_link(model, f"https://huggingface.co/{model}")


def hub_data(manifest: Manifest) -> str | None:
    """Return the hub id of the data set; None if it did not come from the hub."""
    name = manifest.data_source.removeprefix("hub:")
    return name if manifest.data_source.startswith("hub:") and HUB_ID.fullmatch(name) else None


def license_fields(record: TrainedRecord) -> tuple[str | None, str | None, str | None]:
    """Return license, license_name and license_link for the hub: those of the recipe, or the base model's license."""
    publish, inherited = record.recipe.publish, record.manifest.model_license
    if publish.license is not None:
        return publish.license, publish.license_name, publish.license_link
    if inherited is None or not inherited.strip():
        return None, None, None
    license_id = re.sub(r"\s+", "-", inherited.strip().lower())
    return (license_id, None, None) if license_id in HUB_LICENSES else ("other", license_id, None)
