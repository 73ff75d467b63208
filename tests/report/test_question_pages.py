"""Card and report of a run with several questions: valid for the hub, and every number from the record."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt

from tests.helpers.page_tags import Page
from tests.helpers.question_records import QUESTIONS, questions_recipe, questions_record, questions_task, record_of
from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import HOSTILE
from tests.helpers.shown_numbers import questions_numbers, shown_numbers
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.results import Interval
from whinchat.recipe.data_config import DataConfig
from whinchat.report.formatting import format_interval
from whinchat.report.question_notes import question_limitations, question_warnings
from whinchat.report.question_pages import build_question_card, render_question_report, write_question_pages
from whinchat.report.question_titles import paired_test_sentence
from whinchat.report.short_card import build_short_card
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def changed(number: int, **changes: object) -> QuestionsRecord:
    """The record with some fields of one question's result replaced."""
    record = questions_record()
    results = list(record.questions)
    results[number] = replace(results[number], **changes)
    return replace(record, questions=tuple(results))


def hostile_record() -> QuestionsRecord:
    """A record whose names and instructions try to be markup."""
    asked = {"type": "choice", "instructions": HOSTILE.replace("\n", " "), "options": ["a|b`c", "<img src=x>", "c\\"]}
    tags = {"type": "multi", "instructions": "<b>?", "options": ["<script>", "[x](y)"]}
    task = questions_task(odd=asked, tags=tags)
    data = DataConfig.model_validate({"source": "x.csv", "answers": {"odd": "a", "tags": "b"}})
    return record_of(questions_recipe(task=task, data=data, description="```\n# no heading [x](y)"))


def test_the_model_index_holds_exactly_the_metrics_of_the_record() -> None:
    record = questions_record()
    data = ModelCard(build_question_card(record).content).data
    name, results = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "SmolLM2-135M-Instruct with DoRA answers 4 questions about texts (tickets)"
    wanted = [
        (f"{result.name}: {metric.title}, {mode}", metric.hub_id or key, metrics.values[key])
        for result in record.questions
        for mode, metrics in (("calibrated answers", result.shipped), ("label scoring", result.after))
        for key, metric in QUESTION_METRICS[result.type].items()
    ]
    assert [(one.metric_name, one.metric_type, one.metric_value) for one in results] == wanted
    assert {one.dataset_split for one in results} == {"test"}
    assert {"f1", "accuracy", "mae", "roc_auc", "recall"} <= set(data.metrics)
    assert data.license == "apache-2.0"


def test_every_number_of_card_and_report_is_in_the_record() -> None:
    record = questions_record()
    report = re.sub(r"<style>.*?</style>|<[^>]+>", " ", render_question_report(record), flags=re.S)
    for text in (build_question_card(record).text, report):
        assert shown_numbers(text) <= questions_numbers(record)
        for result in record.questions:
            assert f"{result.shipped.values[result.headline.name]:.3f}" in text
            assert all(option in text for option in result.options)
        assert all(asked["instructions"] in text for asked in QUESTIONS.values())


def test_the_report_links_to_the_report_of_every_question_that_has_one() -> None:
    with draw_no_figures():
        html = render_question_report(questions_record())
    links = re.findall(r'href="(questions/[^"]+)"', html)
    assert links == [f"questions/{name}/report.html" for name in ("team", "angry", "urgency")]
    assert "in the folders questions/tags/01 to questions/tags/06." in html


def test_what_is_not_defined_or_missing_is_called_not_measured() -> None:
    record = questions_record()
    angry = record.questions[1]
    undefined = replace(angry.after, values=dict.fromkeys(angry.after.values), intervals={}, curve=())
    test = replace(angry.paired, gain=None, interval=None)
    record = changed(1, after=undefined, calibrated=None, calibration=None, paired=test, baselines=())
    with draw_no_figures():
        report = Page(render_question_report(record)).text
    card = build_question_card(record).text
    assert "| F1 of yes | 0.131 (0.061–0.213) | not measured |" in card
    assert "The change in F1 of yes was not measured." in card
    assert "angry: calibrated answers not measured, because the run has no validation split." in card
    for text in (card, report):
        assert not re.search(r"\b(nan|None)\b", text)
    results = model_index_to_eval_results(build_question_card(record).data.to_dict()["model-index"])[1]
    assert not [one for one in results if one.metric_name.startswith("angry")]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    record = hostile_record()
    card = build_question_card(record)
    tokens = MarkdownIt("commonmark").enable("table").parse(card.text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [one.content for one in inline if one.type == "html_inline"]
    assert {one.content.strip() for one in tokens if one.type == "html_block"} == {
        "<details><summary>The recipe</summary>", "</details>",
    }  # fmt: skip
    targets = {str(one.attrs["href"]) for one in inline if one.type == "link_open"}
    assert all(target.startswith("https://") and "evil" not in target for target in targets)
    page = Page(render_question_report(record))
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    with draw_no_figures():
        written = write_question_pages(record, RunFolder(tmp_path))
    assert [path.name for path in written][-2:] == ["README.md", "report.html"]


def test_warnings_say_what_is_wrong_with_which_question() -> None:
    assert question_warnings(questions_record()) == ()
    team = questions_record().questions[0]
    constant = replace(
        team.shipped,
        confusion=tuple((sum(row), 0, 0, 0) for row in team.shipped.confusion),
        values={**team.shipped.values, "macro_f1": 0.127},
    )
    worse, same, tfidf = question_warnings(changed(0, calibrated=constant))
    assert worse.startswith("Training made the answers to team worse: macro-F1 fell from 0.236 to 0.127 on 300 texts")
    interval = team.paired.interval
    assert interval is not None
    assert worse.endswith(f" of test (95 % interval of the change: {format_interval(interval)}).")
    assert same == "All 300 texts of test get the same answer to team: returns."
    assert tfidf.startswith("For team, TF-IDF + logistic regression is at least as good: macro-F1 ")
    tags = questions_record().questions[3]
    never = replace(tags.shipped, options=tuple(replace(one, recall=0.0) for one in tags.shipped.options))
    (nothing,) = question_warnings(changed(3, calibrated=never))
    assert "the same answer to tags: none of the options that apply" in nothing


def test_answers_that_stayed_the_same_show_no_change() -> None:
    team = questions_record().questions[0]
    same = replace(team, paired=replace(team.paired, fixed=0, broken=0, gain=0.0, interval=Interval(0.0, 0.0)))
    assert paired_test_sentence(same) == (
        "team: no answer changed from right to wrong or from wrong to right, so there is no change in macro-F1 to test."
    )


def test_limitations_follow_from_the_record() -> None:
    found = question_limitations(questions_record())
    assert "angry: 14.0 % of the texts of test have no answer and were not measured." in found
    assert "tags: no text of test has the answer never used." in found
    assert any(one.startswith("angry: some answers have fewer than 30 texts in test") for one in found)
    assert any(one.startswith("angry: the 95 % interval of F1 of yes is wide") for one in found)
    paired = replace(questions_record().questions[2].paired, interval=Interval(-0.1, 0.2))
    record = changed(2, paired=paired)
    assert "urgency: a reliable gain in quadratic weighted kappa (QWK) was not shown." in question_limitations(record)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")
def test_the_report_fits_a_phone(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    with draw_no_figures():
        path.write_text(render_question_report(questions_record()), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 375, "height": 800})
        page.goto(path.as_uri(), timeout=120_000)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        assert page.evaluate(TOO_WIDE) == []
        browser.close()


# Parts that are wider than their box, but for those that scroll by themselves.
TOO_WIDE = """() => [...document.querySelectorAll('main *, header *')]
    .filter(part => part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 1)
    .filter(part => !part.closest('figure, thead, .matrix'))
    .map(part => part.outerHTML.slice(0, 80))"""


def test_the_card_without_an_evaluation_names_the_questions() -> None:
    card = build_short_card(questions_recipe(), "me/tickets", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert "It answers questions about texts: team, angry, urgency, tags." in card.text
    assert "which also returns the probability of each answer" in card.text
    assert "transformers and PEFT" not in card.text
