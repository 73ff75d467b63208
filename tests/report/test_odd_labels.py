"""Labels and texts full of control characters and markup: every file still parses, and the terminal is left alone."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers import run_records
from tests.helpers.quick_figures import draw_no_figures
from whinchat.cli.output import emit_json, print_table
from whinchat.cli.printing.predictions import print_predictions
from whinchat.cli.printing.results import print_run
from whinchat.inference.predictor import Predictions
from whinchat.report.card import build_card
from whinchat.report.comparison import compare_records
from whinchat.report.comparison_tables import comparison_table
from whinchat.report.figures.run_figures import heatmaps, run_figures
from whinchat.report.html import render_report
from whinchat.report.snippet import python_snippet
from whinchat.report.visible_text import visible, visible_json
from whinchat.report.write import write_pages
from whinchat.server.server_metrics import ServerMetrics
from whinchat.storage.run_folder import RunFolder

ODD = (
    "\x1b[31mred\x1b]0;title\x07",
    "--> ]]> <!-- & \x00\x08 \ufffe",
    "[/bold] [red]r[/] \\[x]",
    "a\u2028b\x85c \u202egnol\u2066 \x9b2J",
    'q"\\\n---\n',
    "half \ud800 of a pair",
)
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
RECORD = run_records.run_record(ODD, text=" / ".join(ODD))


class StrictPage(HTMLParser):
    """Counts the open tags, so that text which became a tag is found."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def test_figures_are_xml(recwarn: pytest.WarningsRecorder) -> None:
    for figure in (*run_figures(RECORD), *heatmaps(RECORD)):
        ElementTree.fromstring(figure.svg().encode())
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_card_and_report_hold_no_control_character(tmp_path: Path) -> None:
    with draw_no_figures():
        card_path, report_path = write_pages(RECORD, RunFolder(tmp_path))
        plain = StrictPage(render_report(run_records.run_record(run_records.labels_of(len(ODD)))))
    card, report = card_path.read_text(encoding="utf-8"), report_path.read_text(encoding="utf-8")
    assert UNSAFE.search(card + report) is None
    front_matter = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert front_matter["pipeline_tag"] == "text-classification"
    assert StrictPage(report).tags == plain.tags


def test_front_matter_of_an_odd_task_name() -> None:
    task = RECORD.recipe.task.model_copy(update={"name": "x\n---\nlicense: mit\n\x1b"})
    card = build_card(replace(RECORD, recipe=RECORD.recipe.model_copy(update={"task": task})))
    assert card.data.license == "apache-2.0"
    assert {result.task_name for result in card.data.eval_results} == {task.name}


def test_the_snippet_of_the_card_has_the_instruction_of_the_training() -> None:
    task = RECORD.recipe.task.model_copy(update={"instruction": ODD[0] + ODD[3]})
    code = python_snippet(RECORD.recipe.model_copy(update={"task": task}), "float32", "float32", "adapter", "base")
    assert UNSAFE.search(code) is None
    line = next(line for line in code.splitlines() if line.startswith("instruction = "))
    assert json.loads(line.removeprefix("instruction = ")) == ODD[0] + ODD[3]


def test_the_terminal_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    print_run(RECORD, tmp_path / ODD[0])
    print_table(comparison_table(compare_records({ODD[2]: RECORD, ODD[0]: RECORD})), title=ODD[2])
    probabilities = np.eye(len(ODD))
    predictions = Predictions(ODD, probabilities, np.zeros(len(ODD), dtype=bool))
    for as_json in (False, True):
        print_predictions(ODD, [""] * len(ODD), predictions, as_json)
    emit_json({"labels": ODD})
    shown = capsys.readouterr().out
    assert UNSAFE.search(shown) is None
    assert "[31mred" in shown
    assert "[/bold]" in shown


def test_json_for_the_terminal_keeps_every_character() -> None:
    assert json.loads(visible_json(list(ODD))) == list(ODD)
    assert visible("tab\tand\nline\u200dend 👩‍👧 नमस्ते") == "tab\tand\nline\u200dend 👩‍👧 नमस्ते"


def test_metrics_of_odd_labels_parse() -> None:
    metrics = ServerMetrics()
    for label in ODD[:-1]:
        metrics.answers.labels("model", label).inc()
    (family,) = [
        family
        for family in text_string_to_metric_families(metrics.page().decode())
        if family.name == "whinchat_answers"
    ]
    assert {sample.labels["label"] for sample in family.samples if sample.name.endswith("_total")} == set(ODD[:-1])
