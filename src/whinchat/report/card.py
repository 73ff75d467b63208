"""Build the model card: metadata for the Hugging Face hub, and a text whose numbers all come from the run's record."""

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.hub.client import HUB_ID
from whinchat.recipe.card_metadata import HUB_LICENSES
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.report import formatting, tables
from whinchat.report.answer_modes import metrics_of_mode, reported_modes
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.card_facts import (
    BASE_PLACEHOLDER,
    REPOSITORY_PLACEHOLDER,
    card_facts,
    citation,
    project_link,
)
from whinchat.report.comparison_tables import methods_table, pair_table
from whinchat.report.figures.run_figures import BINS_SENTENCE, run_figures
from whinchat.report.formatting import MODE_NAMES
from whinchat.report.key_facts import key_facts_table
from whinchat.report.limitations import limitations
from whinchat.report.markdown import Markdown, escape, fence, markdown_link, markdown_table
from whinchat.report.published_figures import presented, published_figures
from whinchat.report.quoted_texts import omission_sentence, with_quotable_texts
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet
from whinchat.report.titles import hub_model, macro_f1_title, run_title
from whinchat.storage.run_record import Manifest, RunRecord


def card_data(record: RunRecord, base: str | None = None) -> ModelCardData:
    """Return the metadata of the card, without the fields that are not known; ``base`` as in ``build_card``."""
    recipe, manifest = record.recipe, record.manifest
    base = base or hub_model(manifest)
    license_id, license_name, license_link = _license(record)
    datasets = dict.fromkeys((*filter(None, [_hub_data(manifest)]), *recipe.publish.datasets))
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
        metrics=[metric.hub_id or name for name, metric in METRICS.items()],
        model_name=run_title(record, base),
        eval_results=eval_results(record),
    )


def hub_tags(recipe: Recipe, load_in: str, base: str | None) -> list[str]:
    """Return the tags by which the hub lists an adapter."""
    tags = ["whinchat", "peft", "transformers", recipe.adapter.method]
    tags += ["4-bit"] if load_in == "nf4" else []
    tags += [] if base is None else [f"base_model:adapter:{base}"]
    return [*tags, *recipe.publish.tags]


def eval_results(record: RunRecord) -> list[EvalResult]:
    """Return the metrics after training, for the model-index of the card; first those of ``whinchat predict``."""
    measured = [metrics for mode in reported_modes(record) if (metrics := metrics_of_mode(record, mode)[1]) is not None]
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
    record: RunRecord, *, repository: str = REPOSITORY_PLACEHOLDER, figures: str = "figures", base: str | None = None
) -> ModelCard:
    """Return the card of a run.

    Args:
        record: the run.
        repository: the hub id from which a reader loads the classifier.
        figures: the folder of the PNG figures, relative to the card.
        base: hub id of the base model; None takes the one that the record names.
    """
    record = with_quotable_texts(presented(record))
    metadata = card_data(record, base)
    body = _body(record, repository, figures, base or hub_model(record.manifest))
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")


def _body(record: RunRecord, repository: str, figures: str, base: str | None) -> str:
    recipe, manifest = record.recipe, record.manifest
    named_base = base or BASE_PLACEHOLDER
    code = python_snippet(recipe, manifest.load_in, manifest.compute_dtype, repository, named_base)
    images = {
        figure.name: Markdown(f"![{escape(figure.alt)}]({figures.rstrip('/')}/{figure.name}.png)")
        for figure in run_figures(record)
    }
    license_id, license_name, _ = _license(record)
    title = run_title(record, base)
    return render_template(
        "card.md.jinja",
        escape,
        title=title,
        summary=f"{macro_f1_title(record)} ({MODE_NAMES[record.shipped.mode]}).",
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
        bins_sentence=BINS_SENTENCE,
        table=markdown_table,
        run=Markdown(repository),  # inside a code block
        is_placeholder=repository == REPOSITORY_PLACEHOLDER,
        base_placeholder=None if base else BASE_PLACEHOLDER,
        project=project_link(),
        about=card_facts(record, license_name or license_id),
        omission=omission_sentence(recipe),
        citation=fence(citation(record, title, repository), "bibtex"),
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


def _license(record: RunRecord) -> tuple[str | None, str | None, str | None]:
    """The license, license_name and license_link of the hub: those of the recipe, or the base model's license."""
    publish, inherited = record.recipe.publish, record.manifest.model_license
    if publish.license is not None:
        return publish.license, publish.license_name, publish.license_link
    if inherited is None or not inherited.strip():
        return None, None, None
    license_id = re.sub(r"\s+", "-", inherited.strip().lower())
    return (license_id, None, None) if license_id in HUB_LICENSES else ("other", license_id, None)
