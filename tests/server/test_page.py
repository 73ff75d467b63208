"""The page in a real browser: typing, tables, keyboard, phone."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.helpers import tiny_models
from whinchat.inference.predictor import Predictor
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.serve import listen, server_config
from whinchat.server.served_models import ModelHost

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")
# Without these it looks for its makers' hosts.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
TEXT = tiny_models.toy_rows(1, tiny_models.ONE_TOKEN, 5)[0][0]


@pytest.fixture(scope="module")
def address(host: ModelHost) -> Iterator[str]:
    listening = listen("127.0.0.1", 0)
    limits = Limits(max_chars=500, max_texts=10)
    app = create_app(host.models, host.predict, limits, 8)
    server = uvicorn.Server(server_config(app, limits))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, which must send requests to this server only and log no error."""
    opened = browser.new_page(viewport={"width": 1000, "height": 800})
    opened.set_default_timeout(60_000)
    asked: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    # The browser logs a refused request, too.
    opened.on("console", lambda message: message.text.startswith("Failed to load") or complaints.append(message.text))
    opened.on("pageerror", lambda fault: complaints.append(str(fault)))
    opened.goto(address)
    opened.wait_for_function("() => document.getElementById('name').textContent === 'first'")
    yield opened
    opened.close()
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not complaints


def test_answers_come_while_typing(page: Any, runs: dict[str, Path]) -> None:
    # The cursor is in the field already, and typing replaces the selected example.
    page.keyboard.type(TEXT)
    assert page.input_value("#text") == TEXT
    predictor = Predictor.load(runs["first"])
    predictions = predictor.predict([TEXT])
    shown = [f"{100 * share:.1f} %" for share in predictions.probabilities[0]]
    page.wait_for_function(
        "shown => JSON.stringify([...document.querySelectorAll('.answer.after td:last-child')].map(c => c.textContent))"
        " === shown",
        arg=json.dumps(shown, separators=(",", ":")),
    )
    assert page.locator(".answer.after .verdict").inner_text() == predictions.label_names[0]
    assert page.locator(".answer.before tbody tr").count() == 3
    widths = page.locator(".answer.after .track i").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx(100 * predictions.probabilities[0], abs=0.01)
    # A screen reader reads the answer once typing has stopped.
    spoken = shown[predictions.label_indices[0]]
    page.wait_for_function("share => document.getElementById('said').textContent.includes(share)", arg=spoken)
    status = page.locator("#said")
    assert status.get_attribute("role") == "status"
    assert re.match(rf"{predictions.label_names[0]}.*, [\d.]+ %\. Before fine-tuning: \w+\.$", status.inner_text())
    page.fill("#text", "")
    page.wait_for_function("() => !document.querySelector('.answer')")


def test_the_page_opens_with_an_answer(page: Any, address: str) -> None:
    examples = page.request.get(f"{address}/v1/model").json()["models"][0]["examples"]
    page.wait_for_selector(".answer.after .verdict")
    assert page.input_value("#text") == examples[0]
    buttons = page.locator("#examples button")
    assert buttons.all_inner_texts() == examples
    assert buttons.evaluate_all("all => all.map(one => one.ariaPressed)") == ["true"] + ["false"] * (len(examples) - 1)
    with page.expect_response(f"{address}/v1/classify") as response:
        buttons.nth(1).click()
    assert response.value.request.post_data_json["texts"] == examples[1]
    page.wait_for_function(
        "label => document.querySelector('.answer.after .verdict').firstChild.textContent === label",
        arg=response.value.json()["results"][0]["label"],
    )
    assert page.input_value("#text") == examples[1]
    # Another classifier brings its own examples, and keeps a text that was typed.
    page.select_option("#model", "second")
    page.wait_for_function("text => document.getElementById('text').value !== text", arg=examples[1])
    page.fill("#text", TEXT)
    page.select_option("#model", "first")
    assert page.input_value("#text") == TEXT


def test_another_classifier(page: Any) -> None:
    page.fill("#text", TEXT)
    page.select_option("#model", "second")
    page.wait_for_function("() => document.querySelectorAll('.answer.after tbody tr').length === 4")
    assert page.locator("h1").inner_text() == "second"
    assert '"model":"second"' in page.locator("#curl").inner_text()


def test_a_fault_is_told(page: Any) -> None:
    page.evaluate("document.getElementById('text').removeAttribute('maxlength')")
    page.fill("#text", "x" * 501)
    page.wait_for_selector("#fault:not([hidden])")
    assert page.inner_text("#fault") == "The text: 501 characters; a text may have at most 500."
    page.fill("#text", "fine")
    page.wait_for_selector(".answer")
    assert page.locator("#fault").is_hidden()


def test_a_table_by_keyboard(page: Any, tmp_path: Path) -> None:
    texts = tiny_models.toy_rows(70, tiny_models.ONE_TOKEN, 6)[0]
    source = tmp_path / "tweets.csv"
    rows = "".join(f"old,{text}\n" for text in texts)
    source.write_text(f"label,words\n{rows}a,b,c\n", encoding="utf-8")
    assert page.locator("#column").is_disabled()
    page.set_input_files("#file", source)
    page.wait_for_selector("#column:enabled")
    # No column has the name of the one that the classifier was trained on, so the user has to choose.
    assert page.locator("#column option").all_inner_texts() == ["Choose a column", "label", "words"]
    assert page.input_value("#column") == ""
    page.focus("#file")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "column"
    page.keyboard.press("w")
    page.keyboard.press("Tab")
    seen = page.evaluate_handle(
        """() => {
            const seen = [], bar = document.getElementById("bar-label");
            new MutationObserver(() => seen.push(bar.textContent)).observe(bar, {childList: true});
            return seen;
        }"""
    )
    page.keyboard.press("Enter")
    page.wait_for_selector("#table-found:not([hidden])")
    assert seen.json_value()[0] == "Sending the table"
    assert seen.json_value()[-1] == "71 of 71 rows labelled"
    assert page.locator("#table-progress").is_hidden()
    page.wait_for_function(
        "() => document.getElementById('download').getBoundingClientRect().bottom <= window.innerHeight"
    )
    assert page.inner_text("#table-said").startswith("71 rows labelled")
    assert '1 could not be read; the column "predicted_error" gives the reason' in page.inner_text("#table-said")
    assert page.locator("#table-chart tbody tr").count() == 3
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "tweets-labelled.csv"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    added = ("label", "unsure", "p_bad", "p_fine", "p_good", "error")
    assert lines[0] == ",".join(["label", "words", *(f"predicted_{name}" for name in added)])
    assert len(lines) == 72
    assert [line.split(",")[1] for line in lines[1:71]] == list(texts)


def test_a_file_is_dropped(page: Any) -> None:
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(['{"text": "fine"}\\n'], 'one.jsonl'));
            document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));
        }"""
    )
    page.wait_for_selector("#column:enabled")
    assert page.input_value("#column") == "text"
    page.click("#start")
    page.wait_for_selector("#table-found:not([hidden])")
    assert page.inner_text("#table-said") == "1 row labelled."


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "notes.xlsx",
            b"PK",
            "Notes.xlsx: is not a table that the server can label; send .csv, .tsv, .jsonl, .ndjson.",
        ),
        ("old.csv", "text\nc\xe4f\xe9\n".encode("utf-16"), "Old.csv: is UTF-16, not UTF-8; save it as UTF-8"),
        ("none.csv", b"", "None.csv: the file is empty; give one with a header and rows."),
        ("twice.csv", b"text,text\na,b\n", "Twice.csv:1: 2 columns are called 'text'; rename all but one."),
    ],
)
def test_messages_are_for_readers_of_a_page(page: Any, name: str, content: bytes, words: str) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "text/csv", "buffer": content})
    page.wait_for_selector("#column:enabled, #table-fault:not([hidden])")
    if page.locator("#table-fault").is_hidden():
        page.click("#start")
        page.wait_for_selector("#table-fault:not([hidden])")
    assert page.inner_text("#table-fault").startswith(words)
    assert not re.search(r"--\w|`|whinchat |iconv|data\.", page.inner_text("#table-fault"))


def test_work_in_progress_and_a_server_that_is_gone(page: Any, address: str) -> None:
    page.wait_for_selector(".answer")
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/v1/classify", hold)
    page.fill("#text", TEXT)
    page.wait_for_selector("#working:not([hidden])")
    assert page.inner_text("#working") == "Working on the answer"
    held[0].abort()
    page.wait_for_selector("#fault:not([hidden])")
    assert page.inner_text("#fault").startswith("The server does not answer.")
    assert page.locator("#working").is_hidden()


def test_an_answer_of_the_student_is_named(page: Any) -> None:
    page.wait_for_selector(".answer")
    result = {"label": "good", "unsure": False, "probabilities": {"good": 0.9, "bad": 0.1}, "by_student": True}
    page.route("**/v1/classify", lambda route: route.fulfill(json={"model": "first", "results": [result]}))
    page.fill("#text", TEXT)
    page.wait_for_function("() => document.querySelector('.answer h3').textContent === 'Answer, by the student'")


def test_many_labels(page: Any) -> None:
    """The three most probable of many labels are shown, the answer first, and a button shows all."""
    page.wait_for_selector(".answer")
    labels = [f"label of several words {index}" for index in range(12)]
    shares = {label: (index + 1) / 78 for index, label in enumerate(labels)}
    result = {"label": labels[-1], "unsure": False, "probabilities": shares, "before": None}
    page.route("**/v1/classify", lambda route: route.fulfill(json={"model": "first", "results": [result]}))
    page.fill("#text", TEXT)
    button = page.locator(".answer button.all")
    button.wait_for()
    rows = page.locator(".answer tbody tr:visible th")
    assert rows.all_inner_texts() == labels[:-4:-1]
    assert page.inner_text(".verdict") == rows.first.inner_text()
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("Show all 12 labels", "false")
    button.click()
    assert rows.all_inner_texts() == labels[::-1]
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("Show the 3 highest", "true")
    # The next answer shows all labels, too.
    with page.expect_response("**/v1/classify"):
        page.fill("#text", "another text")
    page.wait_for_function("() => !document.querySelector('.stale')")
    assert rows.count() == 12


def test_dark_figures_on_the_dark_page(browser: Any, address: str) -> None:
    filters = {}
    for scheme in ("light", "dark"):
        opened = browser.new_page(color_scheme=scheme)
        opened.goto(address)
        figure = opened.locator("#figures img").first
        figure.scroll_into_view_if_needed()
        filters[scheme] = figure.evaluate("image => getComputedStyle(image).filter")
        opened.close()
    assert filters == {"light": "none", "dark": "invert(1) hue-rotate(180deg)"}


def test_figures_and_pages(page: Any, address: str) -> None:
    assert page.locator("#figures img").count() >= 3
    assert all(page.locator("#figures img").evaluate_all("all => all.map(one => one.alt.length > 10)"))
    page.click("text=Model card")
    page.wait_for_url(f"{address}/runs/first/card")
    assert page.locator("table").count() > 3
    assert page.locator("img").first.evaluate("one => one.complete && one.naturalWidth > 0")


def test_the_api_can_be_tried(page: Any, address: str) -> None:
    page.click("text=All requests, to try")
    page.wait_for_url(f"{address}/docs")
    page.click(".opblock-summary-path >> nth=0")
    page.click("button.execute")
    page.wait_for_selector(".live-responses-table .response-col_status >> text=200")
    assert '"probabilities"' in page.locator(".live-responses-table").inner_text()


def test_on_a_phone(browser: Any, address: str) -> None:
    phone = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme="dark", has_touch=True)
    phone.goto(address)
    phone.fill("#text", TEXT)
    phone.wait_for_selector(".answer")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    assert phone.evaluate("document.getElementById('start').getBoundingClientRect().height") >= 44
    phone.close()


def test_everything_has_a_name(page: Any) -> None:
    """Every control has a name for screen readers, and no level of heading is skipped."""
    page.fill("#text", TEXT)
    page.wait_for_selector(".answer")
    snapshot = page.locator("body").aria_snapshot()
    for line in snapshot.splitlines():
        control = re.match(r"\s*- (textbox|button|combobox|link|progressbar|img)(.*)", line)
        assert not control or re.match(r' "[^"]+"', control[2]), line
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
