"""Free generation of a sample: every place that shows its figures says of how many texts they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.run_records import run_record, with_sampled_generation
from tests.helpers.shown_numbers import record_numbers, shown_numbers
from whinchat.cli.printing.results import print_run
from whinchat.report.card import build_card, eval_results
from whinchat.report.comparison import compare_records
from whinchat.report.comparison_tables import comparison_table, methods_table
from whinchat.report.figures.run_figures import heatmaps, run_figures
from whinchat.report.html import render_report
from whinchat.report.tables import headline_table, headlines
from whinchat.storage.run_comparison import StoredComparison

RECORD = with_sampled_generation(run_record())
SAMPLE = "sample of 200 texts"


@pytest.fixture(autouse=True)
def _drawn() -> None:
    """Leave the figures blank, as outside this folder: their texts are tested, not their pictures."""


def test_scores_of_the_same_texts_stand_before_the_generated_answers() -> None:
    rows = headline_table(RECORD).rows
    macro_f1 = {row[0]: row[3] for row in rows if row[1] == "macro-F1" and not row[0].startswith("published")}
    assert list(macro_f1) == [
        "calibrated answers",
        "label scoring",
        f"label scoring ({SAMPLE})",
        f"free generation ({SAMPLE})",
        f"free generation (first label word, {SAMPLE})",
    ]
    assert RECORD.after.score_of_generated is not None
    assert macro_f1[f"label scoring ({SAMPLE})"].startswith(f"{RECORD.after.score_of_generated.macro_f1:.3f} (")
    assert headlines(RECORD)[-1].title == f"Macro-F1 with free generation ({SAMPLE})"


def test_card_report_and_terminal_name_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, report = str(build_card(RECORD)), re.sub(r"\s+", " ", render_report(RECORD))
    print_run(RECORD, tmp_path)
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"label scoring ({SAMPLE})" in printed
    for text in (card, report):
        assert "It answered a random sample of 200 texts; label scoring of the same sample stands beside it." in text
        assert "share after training, in a sample of 200 texts:" in text
        assert f"with free generation ({SAMPLE})" in text
    assert shown_numbers(card) <= record_numbers(RECORD)
    whole = str(build_card(run_record())) + render_report(run_record())
    assert "sample of" not in whole


def test_the_model_index_says_how_many_rows_are_behind_each_figure() -> None:
    results = {result.metric_name: result for result in eval_results(RECORD)}
    generated = results[f"macro-F1, free generation ({SAMPLE})"]
    assert generated.metric_args["rows"] == 200
    assert results["macro-F1, label scoring"].metric_args["rows"] == 600


def test_figures_count_the_sample() -> None:
    figures = {figure.name: figure.alt for figure in (*run_figures(RECORD), *heatmaps(RECORD))}
    for name in ("confusion_generate", "confusion_generate_after"):
        assert f"free generation ({SAMPLE})" in figures[name]


def test_compared_runs_say_which_figures_are_of_a_sample() -> None:
    comparison = compare_records({"all": run_record(), "few": RECORD}, {})
    table = comparison_table(comparison)
    for column in ("macro-F1, free generation", "invalid answers", "macro-F1, first label word"):
        whole, sampled = (row[table.columns.index(column)] for row in table.rows)
        assert "(" not in whole
        assert sampled.endswith(" (200 texts)")
    assert " (200 texts)" in str(methods_table(StoredComparison("few", comparison)).rows[1])
