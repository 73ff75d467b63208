"""What a search has found, in words and in a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whinchat.evaluation.results import Interval
from whinchat.recipe.search_space import SearchSpace, TrialSettings
from whinchat.report.figures.style import DARK, LIGHT, figure_theme
from whinchat.report.figures.tune_figure import draw_trials, tune_figure
from whinchat.report.tune_text import conclusion, trials_table
from whinchat.storage.tune_record import TrialState, TuneResult, TuneTrial

STATES: tuple[TrialState, ...] = ("complete", "complete", "pruned", "diverged", "complete")
RATES, LOSSES = (5e-4, 1e-3, 1.1e-4, 2.4e-3, 6e-4), (0.71, 0.64, None, None, 0.69)


def result_of(best: int | None = 2, **fields: object) -> TuneResult:
    trials = tuple(
        TuneTrial(
            number, TrialSettings(rate, 16 if number % 2 else 8, 32 if number % 2 else 16, 1), state, loss, loss,
            None if loss is None else 0.7, {"pruned": 0.25, "diverged": None}.get(state, 1.0), 60.0,
        )
        for number, (rate, state, loss) in enumerate(zip(RATES, STATES, LOSSES, strict=True), 1)
    )  # fmt: skip
    space = SearchSpace((1e-4, 2.5e-3), (8, 16), (1.0, 2.0))
    found = TuneResult(
        "mine", space, "macro_f1", 1000, 200, False, 60.0, 20, True, trials, best, 0.07, Interval(0.02, 0.12)
    )
    return replace(found, **fields)  # type: ignore[arg-type]


def test_the_table_names_the_best_and_what_was_stopped() -> None:
    rows = trials_table(result_of()).rows
    assert [row[0] for row in rows] == ["1 (as it is)", "2 (best)", "3", "4", "5"]
    assert [row[7] for row in rows] == ["complete", "complete", "stopped at 25 %", "diverged", "complete"]
    assert [row[5] for row in rows] == ["0.710", "0.640", "-", "-", "0.690"]


def test_the_conclusion_says_how_far_the_gain_can_be_relied_on() -> None:
    text = " ".join(conclusion(result_of()))
    assert "Trial 2 is best: log-loss 0.640 instead of 0.710" in text
    assert "lower by 0.070 (95 % interval over the rows: 0.020 to 0.120)" in text
    assert "chance" not in text
    assert "This can be chance" in " ".join(conclusion(result_of(gain_interval=Interval(-0.01, 0.15))))
    assert "The model had learned 3 validation texts before" in " ".join(conclusion(result_of(learned_texts=3)))
    assert "learned" not in " ".join(conclusion(result_of(learned_texts=0)))
    assert "None of 4 other trials has a lower log-loss" in conclusion(result_of(best=1))[0]
    assert "no recipe to recommend" in conclusion(result_of(best=None))[0]
    edge = result_of(space=SearchSpace((1e-4, 1e-3), (8, 16), (1.0, 2.0)))
    assert any("--learning-rate is near the highest of its range" in one for one in conclusion(edge))


@pytest.mark.parametrize("theme", [LIGHT, DARK, LIGHT.narrow()])
def test_the_figure_shows_every_trial(theme: object) -> None:
    with figure_theme(theme):  # type: ignore[arg-type]
        figure = draw_trials(result_of(), theme)  # type: ignore[arg-type]
        figure.canvas.draw()
    (ax,) = figure.axes
    drawn = sum(len(line.get_xdata()) for line in ax.lines)  # type: ignore[arg-type]
    assert drawn == 5
    assert [text.get_text() for text in ax.texts] == ["as it is", "best"]
    assert "Best: trial 2, learning rate 0.001, rank 8" in tune_figure("rate", result_of()).alt
