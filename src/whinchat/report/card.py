"""The model card: metadata the Hugging Face hub understands, and a body in which every number was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from whinchat.data.packages import PREFIX, catalog_entry
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.hub.client import HUB_ID
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe, method_name
from whinchat.report import tables
from whinchat.report.figures.run_figures import run_figures
from whinchat.report.formatting import (
    MODES,
    abstention_sentence,
    calibrated_sentence,
    format_count,
    paired_sentence,
)
from whinchat.report.limits import limits
from whinchat.report.markdown import Markdown, escape, fence, markdown_table
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet
from whinchat.storage.run_record import Manifest, RunRecord

# Licences the hub knows by name; any other goes in as "other" with its name beside it.
HUB_LICENSES = frozenset({
    "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd-2-clause",
    "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "creativeml-openrail-m", "gemma", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "mit", "mpl-2.0", "openrail", "other", "unlicense",
})  # fmt: skip
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_model(manifest: Manifest) -> str | None:
    """Hub id of the base model; None where it came from elsewhere.

    A folder called ``models/tiny`` reads like a hub id, so a name counts as one only with a hub commit beside it.
    """
    source = manifest.model_source
    if source.startswith(PREFIX):
        return catalog_entry(source).hub_id
    on_hub = HUB_ID.fullmatch(source) and _COMMIT.fullmatch(manifest.model_commit or "")
    return source if on_hub else None


def card_data(record: RunRecord, base: str | None = None) -> ModelCardData:
    """The card's metadata; what is not known is left out. ``base`` as in ``build_card``."""
    recipe, manifest = record.recipe, record.manifest
    base = base or hub_model(manifest)
    data_id = _hub_data(manifest)
    license_id, license_name = _license(manifest.model_license)
    extra: dict[str, Any] = {} if base is None else {"base_model_relation": "adapter"}
    return ModelCardData(
        license=license_id,
        license_name=license_name,
        language=recipe.task.language,
        library_name="peft",
        base_model=base,
        pipeline_tag="text-classification",
        tags=tags_of(recipe, manifest.load_in, base),
        datasets=None if data_id is None else [data_id],
        metrics=[metric.hub_id or name for name, metric in METRICS.items()],
        model_name=recipe.name,
        eval_results=eval_results(record),
        **extra,
    )


def tags_of(recipe: Recipe, load_in: str, base: str | None) -> list[str]:
    """Words that the hub finds an adapter by."""
    tags = ["whinchat", "peft", "transformers", recipe.adapter.method]
    tags += ["4-bit"] if load_in == "nf4" else []
    return tags + ([] if base is None else [f"base_model:adapter:{base}"])


def eval_results(record: RunRecord) -> list[EvalResult]:
    """The figures after training, for the card's model-index."""
    return [
        result
        for measured in (record.after.score, record.after.generate)
        if measured is not None
        for result in _results_of(record, measured)
    ]


def _results_of(record: RunRecord, measured: Metrics) -> list[EvalResult]:

    recipe, data_id = record.recipe, _hub_data(record.manifest)
    results = []
    for name, metric in METRICS.items():
        if name not in measured.values:
            continue
        interval = measured.intervals.get(name)
        arguments: dict[str, Any] = {"answered_by": MODES[measured.mode], **metric.hub_arguments}
        if interval is not None:
            arguments["interval_95"] = [interval.low, interval.high]
        results.append(
            EvalResult(
                task_type="text-classification",
                task_name=recipe.task.name,
                dataset_type=data_id or re.sub(r"[^\w.-]+", "-", recipe.task.name).strip("-") or "data",
                dataset_name=data_id or recipe.task.name,
                dataset_config=recipe.data.config if data_id else None,
                dataset_revision=record.manifest.data_revision if data_id else None,
                dataset_split=record.after.split,
                metric_type=metric.hub_id or name,
                metric_value=measured.values[name],
                metric_name=f"{metric.title}, {MODES[measured.mode]}",
                metric_args=arguments,
            )
        )
    return results


def build_card(
    record: RunRecord,
    *,
    adapter: str = "adapter",
    figures: str = "figures",
    run: str = "RUN",
    base: str | None = None,
) -> ModelCard:
    """The card of a run.

    Args:
        record: the run.
        adapter: what a reader gives PEFT to load the adapter: a folder, or the hub id it is uploaded as.
        figures: where the card finds its PNG figures.
        run: what a reader gives whinchat.
        base: hub id of the base model, where the record does not know it.
    """
    metadata = card_data(record, base)
    body = _body(record, adapter, figures, run, base or hub_model(record.manifest))
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")


def write_card(record: RunRecord, path: Path, *, adapter: str = "adapter", figures: str = "figures") -> Path:
    """Write the card to ``path``; ``adapter`` and ``figures`` as in ``build_card``."""
    build_card(record, adapter=adapter, figures=figures).save(path)
    return path


def _body(record: RunRecord, adapter: str, figures: str, run: str, base: str | None) -> str:
    manifest = record.manifest
    images = {
        plot.name: Markdown(f"![{escape(plot.alt)}]({figures.rstrip('/')}/{plot.name}.png)")
        for plot in run_figures(record)
    }
    return render_template(
        "card.md.jinja",
        escape,
        record=record,
        recipe=record.recipe,
        manifest=manifest,
        base=base or manifest.model_source,
        base_link=hub_link(base) if base else escape(manifest.model_source),
        method=method_name(record.recipe.adapter, manifest.load_in),
        labels=tables.label_list(record.recipe),
        rows=format_count(record.after.score.n),
        reference=_reference(record),
        paired=[paired_sentence(one) for one in record.paired],
        calibrated=None if record.reliability is None else calibrated_sentence(record.reliability),
        abstention=None if record.reliability is None else abstention_sentence(record.reliability),
        limits=limits(record),
        images=images,
        table=markdown_table,
        tables=tables,
        run=Markdown(run),  # inside a code block
        snippet=fence(
            python_snippet(
                record.recipe, manifest.load_in, manifest.compute_dtype, adapter, base or manifest.model_source
            ),
            "python",
        ),
        recipe_yaml=fence(recipe_to_yaml(record.recipe), "yaml"),
    )


def hub_link(model: str) -> Markdown:
    """A link to ``model`` on the hub."""
    return Markdown(f"[{escape(model)}](https://huggingface.co/{model})")


def _reference(record: RunRecord) -> Markdown | None:
    published = record.recipe.reference
    if published is None or not re.fullmatch(r"https?://[^\s()<>\"]+", published.url or ""):
        return None
    return Markdown(f"[{escape(published.title)}]({published.url})")


def _hub_data(manifest: Manifest) -> str | None:
    name = manifest.data_source.removeprefix("hub:")
    return name if manifest.data_source.startswith("hub:") and HUB_ID.fullmatch(name) else None


def _license(name: str | None) -> tuple[str | None, str | None]:
    """The hub's ``license``, and ``license_name`` where it has no id of its own."""
    if name is None or not name.strip():
        return None, None
    known = re.sub(r"\s+", "-", name.strip().lower())
    return (known, None) if known in HUB_LICENSES else ("other", known)
