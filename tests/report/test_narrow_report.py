"""The report on a phone, in a real browser: nothing is wider than the screen, and texts keep a readable width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import run_record
from whinchat.report.html import render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")
TICKETS = (
    "Billing and refunds", "Cancel my subscription", "Delivery is late", "Damaged on arrival", "Login and password",
    "Change of address", "Product question before purchase", "Technical support for the mobile app", "Invoice copy",
    "Praise and thanks", "Complaint about staff", "Something else entirely",
)  # fmt: skip
TEXT = (
    "I ordered two chairs, one has arrived; https://example.org/track/0123456789abcdef0123456789abcdef says more. " * 2
)
# Width of each visible cell with a text of more than 20 characters, in CSS pixels.
TEXT_WIDTHS = """() => [...document.querySelectorAll('tbody th, td')]
    .filter(cell => cell.offsetParent && cell.innerText.length > 20).map(cell => cell.getBoundingClientRect().width)"""
TOO_WIDE = """() => [...document.querySelectorAll('main *, header *')]
    .filter(part => part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 1)
    .filter(part => !part.closest('figure, thead, .matrix'))
    .map(part => part.outerHTML.slice(0, 80))"""
# Whether the first visible matrix scrolls sideways, and whether its labels stay where they are.
MATRIX = """() => [...document.querySelectorAll('.matrix')].filter(box => box.clientWidth).slice(0, 1).flatMap(box => {
    const label = box.querySelector('tbody th'), left = label.getBoundingClientRect().left;
    box.scrollLeft = 100;
    return [box.scrollLeft === 100, Math.abs(label.getBoundingClientRect().left - left) < 2];
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report of a run with twelve labels of several words."""
    from playwright.sync_api import sync_playwright

    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    with draw_no_figures():
        path.write_text(render_report(run_record(TICKETS, text=TEXT)), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        opened.goto(path.as_uri(), timeout=120_000)
        yield opened
        browser.close()


@pytest.mark.parametrize("width", [320, 375, 800])
def test_the_report_fits_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    # A phone shows what the run is good for and how to use it first; the rest is closed.
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    assert page.evaluate("document.querySelector('#use').getBoundingClientRect().bottom + scrollY") < 1600
    assert page.evaluate("document.documentElement.scrollHeight") < 6500
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(TOO_WIDE) == []
    assert min(page.evaluate(TEXT_WIDTHS)) > 60
    # The matrix of twelve labels scrolls in a box of its own, beside its labels.
    assert page.evaluate(MATRIX) == ([] if width > 768 else [True, True])
    # Each cell of a card says which column it is.
    shown = page.evaluate("getComputedStyle(document.querySelector('.texts td'), '::before').content")
    assert shown == ("none" if width > 768 else '"true label"')
