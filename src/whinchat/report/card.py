"""Build the model card: metadata for the Hugging Face hub, and a text whose numbers all come from the run's record."""

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.method_names import method_name
from whinchat.report import formatting, tables
from whinchat.report.answer_modes import metrics_of_mode, mode_title, reported_modes
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.card_facts import (
    BASE_PLACEHOLDER,
    REPOSITORY_PLACEHOLDER,
    card_facts,
    citation,
    project_link,
)
from whinchat.report.cascade_note import cascade_sentences
from whinchat.report.comparison_tables import methods_table, pair_table
from whinchat.report.figures.run_figures import BINS_SENTENCE, run_figures
from whinchat.report.formatting import MODE_NAMES
from whinchat.report.hub_metadata import eval_result, hub_link, hub_metadata, license_fields
from whinchat.report.key_facts import key_facts_table
from whinchat.report.limitations import limitations
from whinchat.report.markdown import Markdown, escape, fence, markdown_link, markdown_table
from whinchat.report.published_figures import presented, published_figures
from whinchat.report.quoted_texts import omission_sentence, with_quotable_texts
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet
from whinchat.report.titles import base_depth, hub_model, macro_f1_title, run_title
from whinchat.storage.run_record import RunRecord


def card_data(record: RunRecord, base: str | None = None) -> ModelCardData:
    """Return the metadata of the card, without the fields that are not known; ``base`` as in ``build_card``."""
    base = base or hub_model(record.manifest)
    metrics = [metric.hub_id or name for name, metric in METRICS.items()]
    return hub_metadata(record, base, run_title(record, base), metrics, eval_results(record))


def eval_results(record: RunRecord) -> list[EvalResult]:
    """Return the metrics after training, for the model-index of the card; first those of ``whinchat predict``."""
    measured = [metrics for mode in reported_modes(record) if (metrics := metrics_of_mode(record, mode)[1]) is not None]
    return [_eval_result(record, metrics, name) for metrics in measured for name in METRICS if name in metrics.values]


def _eval_result(record: RunRecord, metrics: Metrics, name: str) -> EvalResult:
    """The result of one metric in one mode."""
    metric = METRICS[name]
    return eval_result(
        record,
        record.after.split,
        f"{metric.title}, {mode_title(record.after, metrics.mode)}",
        (metric.hub_id or name, metrics.values[name]),
        {"answered_by": MODE_NAMES[metrics.mode], "rows": metrics.n, **metric.hub_arguments},
        metrics.intervals.get(name),
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
    license_id, license_name, _ = license_fields(record)
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
        base_depth=base_depth(record.recipe),
        method=method_name(recipe.adapter, manifest.load_in),
        key_facts=key_facts_table(record, base),
        published=published_figures(record),
        methods_table=methods_table,
        cascade_sentences=cascade_sentences,
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
