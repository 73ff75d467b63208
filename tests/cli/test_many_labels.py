"""Twelve labels of several words: a terminal shows whole names and numbers, a pipe has a column for each label."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

import whinchat
from whinchat.cli import output
from whinchat.cli.printing import predictions as printing

LABELS = (
    "Refunds and damage", "Payments and invoices", "Delivery times", "Account and password", "Technical problems",
    "Product questions", "Cancel an order", "Praise and thanks", "Spam or advertising", "Legal and privacy",
    "Press and partners", "Something else",
)  # fmt: skip
TEXTS = ("my parcel is late", "", "I want my money back, for the thing is broken and nobody answers the telephone")


def console_of(monkeypatch: pytest.MonkeyPatch, width: int, *, terminal: bool) -> io.StringIO:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None, emoji=False)
    for module in (output, printing):
        monkeypatch.setattr(module, "out", console)
    return file


def predicted(labels: tuple[str, ...]) -> whinchat.Predictions:
    """Predictions for the two texts of ``TEXTS`` that are not empty; the second is unsure."""
    shares = np.random.default_rng(3).dirichlet(np.ones(len(labels)), size=2)
    return whinchat.Predictions(labels, shares, np.array([False, True]))


@pytest.mark.parametrize("width", [80, 60, 45])
@pytest.mark.parametrize("labels", [LABELS[:3], LABELS])
def test_predictions_show_whole_names_and_numbers(
    monkeypatch: pytest.MonkeyPatch, width: int, labels: tuple[str, ...]
) -> None:
    file, predictions = console_of(monkeypatch, width, terminal=True), predicted(labels)
    printing.print_predictions(TEXTS, ("", "the text is empty", ""), predictions, as_json=False)
    shown = file.getvalue()
    assert all(len(line) <= width for line in shown.splitlines() if not line.startswith("…"))
    for shares in predictions.probabilities:
        for index in (-shares).argsort()[:3]:
            assert labels[index] in shown
            assert f"{shares[index]:.3f}" in shown
    assert "unsure" in shown
    assert "(the text is empty)" in " ".join(shown.replace("│", " ").split())
    assert ("…and 9 less probable labels of each text" in shown) is (len(labels) == 12)


def test_a_pipe_has_a_column_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    file, predictions = console_of(monkeypatch, 80, terminal=False), predicted(LABELS)
    printing.print_predictions(TEXTS, ("", "the text is empty", ""), predictions, as_json=False)
    heading, first, empty, _ = (line.split("\t") for line in file.getvalue().splitlines())
    assert heading == ["label", *LABELS, "text"]
    assert first == [predictions.label_names[0], *(f"{p:.3f}" for p in predictions.probabilities[0]), TEXTS[0]]
    assert empty == ["error", *[""] * 12, " (the text is empty)"]


@pytest.mark.parametrize("files", [1, 2, 5])
def test_counts_of_files_show_whole_names_and_numbers(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    file = console_of(monkeypatch, 80, terminal=True)
    counts = whinchat.LabelCounts(12_000, 0, 3, dict.fromkeys(LABELS, 1000))
    printing.print_labelled_files({f"out/{number}.csv": counts for number in range(files)}, "error", 1.0, as_json=False)
    lines = file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    # A line for each label, in one table or in a block for each file.
    rows = [line for line in lines if line.startswith(tuple(f"│ {label} " for label in LABELS))]
    assert len(rows) % 12 == 0
    assert rows
    assert sum(row.count("1,000") for row in rows) == 12 * files
