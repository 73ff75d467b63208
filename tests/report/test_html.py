"""The report: one file, safe against its texts, true to its record."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.helpers.page_tags import Page
from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import HOSTILE, run_record
from tests.helpers.shown_numbers import record_numbers, shown_numbers
from whinchat.report.html import render_report


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(run_record())


def test_report_needs_no_other_file_and_no_script(html: str) -> None:
    page = Page(html)
    sources = [attrs[key] or "" for _, attrs in page.tags for key in ("src", "srcset") if key in attrs]
    assert len(sources) == 28  # seven figures in two themes, each also for phones
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    links = {attrs["href"] or "" for attrs in page.all("a")}
    assert {link for link in links if not link.startswith("#")} == {"https://huggingface.co/x/y"}
    assert not page.all("script")
    assert not page.all("link")
    assert "url(" not in "".join(re.findall(r"<style>.*?</style>", html, re.S))


def test_report_is_accessible(html: str) -> None:
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert all(attrs.get("alt") and attrs.get("width") and attrs.get("height") for attrs in page.all("img"))
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    targets = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"] for attrs in page.all("a")} <= targets | {"https://huggingface.co/x/y"}


def test_every_figure_in_the_report_is_in_the_record(html: str) -> None:
    record = run_record()
    text = Page(html).text
    assert shown_numbers(text.split("The recipe")[0]) <= record_numbers(record)
    assert f"+{record.paired[0].macro_f1_gain:.3f} (95 % interval: 0.332 to 0.443)" in text


def test_hostile_text_stays_text() -> None:
    record = run_record(("plain", "<img src=x onerror=alert(1)>", 'a"b'), text=HOSTILE)
    recipe = record.recipe.model_copy(update={"name": "</title><script>1</script>"})
    page = Page(render_report(replace(record, recipe=recipe)))
    assert not page.all("script")
    assert len(page.all("img")) == 7
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert "<script>alert(1)</script>" in page.text


def test_what_is_missing_is_called_not_measured() -> None:
    record = replace(run_record(generate=False, points=0), paired=(), samples=())
    text = Page(render_report(record)).text
    assert "Free generation: not measured." in text
    assert "Paired test of the predictions before and after training: not measured." in text
    assert "None" not in text


def test_the_report_of_one_question_sends_its_readers_to_that_of_the_run() -> None:
    with draw_no_figures():
        page = Page(html := render_report(run_record(), part_of="../../report.html"))
    links = [attrs["href"] or "" for attrs in page.all("a")]
    assert [link for link in links if link.startswith("..")] == ["../../report.html", "../../report.html#recipe"]
    # The folder holds no adapter, and its recipe asks for one question alone.
    assert "whinchat predict FOLDER" not in html
    assert "run recipe.yaml" not in html
    targets = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    assert {link for link in links if link.startswith("#")} <= targets
