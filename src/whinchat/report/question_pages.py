"""Build and write the pages of a run with several questions: figures, model card and report.

All are pure functions of the stored record. Each decision has figures and a report of its own in its folder.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard

from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.question_results import QuestionMetrics, QuestionResult
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.method_names import method_name
from whinchat.report import formatting, question_tables, question_titles, tables
from whinchat.report.card_facts import REPOSITORY_PLACEHOLDER, citation, project_link
from whinchat.report.cascade_note import cascade_sentences
from whinchat.report.figures.question_figures import (
    OVERVIEW,
    figure_name,
    question_figures,
    reliability_name,
    write_question_figures,
)
from whinchat.report.figures.run_figures import BINS_SENTENCE
from whinchat.report.figures.style import DARK, LIGHT
from whinchat.report.formatting import MODE_NAMES
from whinchat.report.html import inline_figure
from whinchat.report.hub_metadata import eval_result, hub_link, hub_metadata, license_fields
from whinchat.report.key_facts import key_facts_table
from whinchat.report.markdown import Markdown, escape, fence, markdown_link, markdown_table
from whinchat.report.question_notes import question_card_facts, question_limitations, question_warnings
from whinchat.report.rendering import render_template
from whinchat.report.titles import base_depth, hub_model, run_title
from whinchat.storage.atomic import write_text
from whinchat.storage.questions_record import QUESTIONS_FOLDER, QuestionsRecord, decision_folders
from whinchat.storage.run_folder import RunFolder


def write_question_pages(record: QuestionsRecord, folder: RunFolder) -> tuple[Path, ...]:
    """Write figures, card and report into the run folder; each file is replaced whole.

    Returns:
        The paths of the figures, the card and the report, in this order.
    """
    figures = write_question_figures(record, folder.figures)
    write_text(folder.card, str(build_question_card(record)))
    write_text(folder.report, render_question_report(record))
    return (*figures, folder.card, folder.report)


def question_eval_results(record: QuestionsRecord) -> list[EvalResult]:
    """Return the metrics after training for the model-index, first those of the answers that users get."""
    return [
        one
        for result in record.questions
        for metrics in dict.fromkeys((result.shipped.mode, result.after.mode))
        for one in _eval_results(record, result, result.shipped if metrics == result.shipped.mode else result.after)
    ]


def _eval_results(record: QuestionsRecord, result: QuestionResult, metrics: QuestionMetrics) -> list[EvalResult]:
    """The metrics of one way of answering a question that are defined."""
    arguments = {"question": result.name, "answered_by": MODE_NAMES[metrics.mode]}
    found = []
    for name, metric in QUESTION_METRICS[result.type].items():
        value = metrics.values[name]
        if value is not None:
            title = f"{result.name}: {metric.title}, {MODE_NAMES[metrics.mode]}"
            measured = metric.hub_id or name, value
            further = {**arguments, **metric.hub_arguments}
            found.append(eval_result(record, result.split, title, measured, further, metrics.intervals.get(name)))
    return found


def build_question_card(
    record: QuestionsRecord,
    *,
    repository: str = REPOSITORY_PLACEHOLDER,
    figures: str = "figures",
    base: str | None = None,
) -> ModelCard:
    """Return the card of a run with several questions; arguments as for ``card.build_card``."""
    base = base or hub_model(record.manifest)
    ids = dict.fromkeys(
        metric.hub_id or name for result in record.questions for name, metric in QUESTION_METRICS[result.type].items()
    )
    title = run_title(record, base)
    metadata = hub_metadata(record, base, title, list(ids), question_eval_results(record))
    license_id, license_name, _ = license_fields(record)
    drawn = question_figures(record)
    images = {
        figure.name: Markdown(f"![{escape(figure.alt)}]({figures.rstrip('/')}/{figure.name}.png)") for figure in drawn
    }
    recipe, manifest = record.recipe, record.manifest
    body = render_template(
        "question_card.md.jinja",
        escape,
        **_shared(record, title, base),
        images=images,
        base_link=hub_link(base) if base else escape(manifest.model_source),
        base_depth=base_depth(record.recipe),
        method=method_name(recipe.adapter, manifest.load_in),
        table=markdown_table,
        link=markdown_link,
        run=Markdown(repository),  # inside a code block
        is_placeholder=repository == REPOSITORY_PLACEHOLDER,
        project=project_link(),
        about=question_card_facts(record, license_name or license_id),
        citation=fence(citation(record, title, repository), "bibtex"),
        instruction=fence(recipe.task.instruction, "text"),
        user_template=fence(recipe.task.user_template, "text"),
        prompts=fence(prompts_text(record), "text"),
        recipe_yaml=fence(recipe_to_yaml(recipe), "yaml"),
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")


def render_question_report(record: QuestionsRecord, *, linked: bool = True) -> str:
    """Return the report of a run with several questions as HTML text.

    Args:
        record: the run.
        linked: whether the evidence of each decision stands beside the report, so that it may point there.
    """
    return render_template(
        "question_report.html.jinja",
        None,
        **_shared(record, run_title(record), hub_model(record.manifest)),
        headlines=question_tables.question_headlines(record),
        figures={figure.name: inline_figure(figure) for figure in question_figures(record)},
        linked=linked,
        bins_sentence=BINS_SENTENCE,
        prompts=prompts_text(record),
        recipe_yaml=recipe_to_yaml(record.recipe),
        light=LIGHT,
        dark=DARK,
    )


def _shared(record: QuestionsRecord, title: str, base: str | None) -> dict[str, Any]:
    """The variables of both templates."""
    return {
        "record": record,
        "title": title,
        "warnings": question_warnings(record),
        "limitations": question_limitations(record),
        "key_facts": key_facts_table(record, base),
        "formatting": formatting,
        "cascade_sentences": cascade_sentences,
        "tables": tables,
        "question_tables": question_tables,
        "titles": question_titles,
        "overview": OVERVIEW,
        "figure_name": figure_name,
        "reliability_name": reliability_name,
        "report_address": lambda result: quote(f"{QUESTIONS_FOLDER}/{result.name}/report.html"),
        "evidence_sentence": lambda result: evidence_sentence(record, result),
        "names": ", ".join(record.recipe.task.questions),
    }


def evidence_sentence(record: QuestionsRecord, result: QuestionResult) -> str:
    """Say where the further evidence of a ``multi`` question lies, which has no report for each option."""
    folders = decision_folders(result.name, record.recipe.task.questions[result.name])
    between = "" if len(folders) == 1 else f" to {folders[-1]}"
    return f"The evidence of each option, in this order, lies in the folders {folders[0]}{between}."


def prompts_text(record: QuestionsRecord) -> str:
    """Return every question as the model reads it, under its name; of ``multi`` the question about the first option."""
    parts = []
    for name, question in record.recipe.task.questions.items():
        first, *others = question.decisions(name)
        rest = "the other option" if len(others) == 1 else f"each of the {len(others)} other options"
        like = f" (and the same for {rest})" if others else ""
        parts.append(f"[{first.title}{like}]\n{first.prompt}")
    return "\n\n".join(parts)
