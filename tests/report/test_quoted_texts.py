"""What ``publish.samples`` leaves out of card, report and pushed files."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import run_record, with_manifest
from whinchat.evaluation.results import ConfidentError
from whinchat.report.card import build_card
from whinchat.report.html import render_report
from whinchat.report.quoted_texts import with_quotable_texts
from whinchat.storage.run_record import RunRecord

RUDE = "what a shitty day"


def record_of(samples: Literal["all", "clean", "none"], language: str = "en") -> RunRecord:
    """A run with a rude text among its samples, its generated answers, its confident errors and its findings."""
    record = run_record()
    assert record.reliability is not None
    first, second, third, fourth = record.samples
    rude = (replace(first, text=RUDE), replace(second, after=RUDE), third, fourth)
    errors = (*record.reliability.errors, ConfidentError(RUDE, "negative", "positive", 0.9))
    report = {**record.manifest.data_report, "examples": [f"repeated: {RUDE}", "repeated: a fine day"]}
    recipe = record.recipe.model_copy(
        update={
            "publish": record.recipe.publish.model_copy(update={"samples": samples}),
            "task": record.recipe.task.model_copy(update={"language": language}),
        }
    )
    reliability = replace(record.reliability, errors=errors)
    return with_manifest(replace(record, recipe=recipe, samples=rude, reliability=reliability), data_report=report)


@pytest.mark.parametrize(
    ("samples", "language", "kept"),
    [("all", "en", (4, 2, 2)), ("clean", "en", (2, 1, 1)), ("none", "en", (0, 0, 0)), ("none", "sw", (0, 0, 0))],
)
def test_texts_that_must_not_be_quoted_are_left_out(
    samples: Literal["all", "clean", "none"], language: str, kept: tuple[int, int, int]
) -> None:
    record = record_of(samples, language)
    shown = with_quotable_texts(record)
    assert shown.reliability is not None
    assert (len(shown.samples), len(shown.reliability.errors), len(shown.manifest.data_report["examples"])) == kept
    assert replace(shown, samples=(), manifest=record.manifest, reliability=None) == replace(
        record, samples=(), reliability=None
    )
    with draw_no_figures():
        for page in (build_card(record).text, render_report(record)):
            assert (RUDE in page) == (samples == "all")
            assert ("What a lovely day" in page) == (samples != "none")
            assert (f"(publish.samples: {samples})" in page) == (samples != "all")
            assert "Not measured." not in page
