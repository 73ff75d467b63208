"""Build the model card: metadata for the Hugging Face hub, and a text whose numbers all come from the run's record."""

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.hub.client import HUB_ID
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.report import formatting, tables
from whinchat.report.answer_modes import reported_modes
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.comparison_tables import methods_table, pair_table
from whinchat.report.figures.run_figures import run_figures
from whinchat.report.formatting import MODE_NAMES
from whinchat.report.key_facts import key_facts_table
from whinchat.report.limitations import limitations
from whinchat.report.markdown import Markdown, escape, fence, markdown_link, markdown_table
from whinchat.report.published_figures import presented, published_figures
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet
from whinchat.report.titles import hub_model, macro_f1_title, run_title
from whinchat.storage.run_record import Manifest, RunRecord

# Licence ids of the hub. Any other licence is entered as "other" with its name in license_name.
HUB_LICENSES = frozenset({
    "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd-2-clause",
    "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "creativeml-openrail-m", "gemma", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "mit", "mpl-2.0", "openrail", "other", "unlicense",
})  # fmt: skip


def card_data(record: RunRecord, base: str | None = None) -> ModelCardData:
    """Return the metadata of the card, without the fields that are not known; ``base`` as in ``build_card``."""
    recipe, manifest = record.recipe, record.manifest
    base = base or hub_model(manifest)
    data_id = _hub_data(manifest)
    license_id, license_name = _license(manifest.model_license)
    return ModelCardData(
        license=license_id,
        license_name=license_name,
        language=recipe.task.language,
        library_name="peft",
        base_model=base,
        base_model_relation=None if base is None else "adapter",
        pipeline_tag="text-classification",
        tags=hub_tags(recipe, manifest.load_in, base),
        datasets=None if data_id is None else [data_id],
        metrics=[metric.hub_id or name for name, metric in METRICS.items()],
        model_name=run_title(record, base),
        eval_results=eval_results(record),
    )


def hub_tags(recipe: Recipe, load_in: str, base: str | None) -> list[str]:
    """Return the tags by which the hub lists an adapter."""
    tags = ["whinchat", "peft", "transformers", recipe.adapter.method]
    tags += ["4-bit"] if load_in == "nf4" else []
    return tags + ([] if base is None else [f"base_model:adapter:{base}"])


def eval_results(record: RunRecord) -> list[EvalResult]:
    """Return the metrics after training, for the model-index of the card."""
    measured = [metrics for mode in reported_modes(record) if (metrics := record.after.of_mode(mode)) is not None]
    return [_eval_result(record, metrics, name) for metrics in measured for name in METRICS if name in metrics.values]


def _eval_result(record: RunRecord, metrics: Metrics, name: str) -> EvalResult:
    """The result of one metric in one mode."""
    recipe, data_id, metric = record.recipe, _hub_data(record.manifest), METRICS[name]
    arguments: dict[str, Any] = {"answered_by": MODE_NAMES[metrics.mode], **metric.hub_arguments}
    if (interval := metrics.intervals.get(name)) is not None:
        arguments["interval_95"] = [interval.low, interval.high]
    return EvalResult(
        task_type="text-classification",
        task_name=recipe.task.name,
        dataset_type=data_id or re.sub(r"[^\w.-]+", "-", recipe.task.name).strip("-") or "data",
        dataset_name=data_id or recipe.task.name,
        dataset_config=recipe.data.config if data_id else None,
        dataset_revision=record.manifest.data_revision if data_id else None,
        dataset_split=record.after.split,
        metric_type=metric.hub_id or name,
        metric_value=metrics.values[name],
        metric_name=f"{metric.title}, {MODE_NAMES[metrics.mode]}",
        metric_args=arguments,
    )


def build_card(
    record: RunRecord, *, adapter: str = "adapter", figures: str = "figures", run: str = "RUN", base: str | None = None
) -> ModelCard:
    """Return the card of a run.

    Args:
        record: the run.
        adapter: the folder or hub id that a reader passes to PEFT to load the adapter.
        figures: the folder of the PNG figures, relative to the card.
        run: the folder or hub id that a reader passes to whinchat.
        base: hub id of the base model; None takes the one that the record names.
    """
    record = presented(record)
    metadata = card_data(record, base)
    body = _body(record, adapter, figures, run, base or hub_model(record.manifest))
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")


def _body(record: RunRecord, adapter: str, figures: str, run: str, base: str | None) -> str:
    recipe, manifest = record.recipe, record.manifest
    code = python_snippet(recipe, manifest.load_in, manifest.compute_dtype, adapter, base or manifest.model_source)
    images = {
        figure.name: Markdown(f"![{escape(figure.alt)}]({figures.rstrip('/')}/{figure.name}.png)")
        for figure in run_figures(record)
    }
    return render_template(
        "card.md.jinja",
        escape,
        title=run_title(record, base),
        summary=f"{macro_f1_title(record)} (label scoring).",
        warnings=bad_result_warnings(record),
        record=record,
        formatting=formatting,
        tables=tables,
        base_link=hub_link(base) if base else escape(manifest.model_source),
        method=method_name(recipe.adapter, manifest.load_in),
        key_facts=key_facts_table(record, base),
        published=published_figures(record),
        methods_table=methods_table,
        pair_table=pair_table,
        limitations=limitations(record),
        images=images,
        table=markdown_table,
        run=Markdown(run),  # inside a code block
        snippet=fence(code, "python"),
        instruction=fence(recipe.task.instruction, "text"),
        user_template=fence(recipe.task.user_template, "text"),
        link=markdown_link,
        recipe_yaml=fence(recipe_to_yaml(recipe), "yaml"),
    )


def hub_link(model: str) -> Markdown:
    """Return a link to ``model`` on the hub."""
    return markdown_link(model, f"https://huggingface.co/{model}")


def _hub_data(manifest: Manifest) -> str | None:
    """The hub id of the data set; None if it did not come from the hub."""
    name = manifest.data_source.removeprefix("hub:")
    return name if manifest.data_source.startswith("hub:") and HUB_ID.fullmatch(name) else None


def _license(name: str | None) -> tuple[str | None, str | None]:
    """``license`` as the hub knows it, and ``license_name`` for a licence without an id of the hub."""
    if name is None or not name.strip():
        return None, None
    license_id = re.sub(r"\s+", "-", name.strip().lower())
    return (license_id, None) if license_id in HUB_LICENSES else ("other", license_id)
