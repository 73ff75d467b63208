"""Summaries against records made by hand: means, pairs by seed, verdicts only from three seeds on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.arenas import MakeSpec, jobs_of
from tests.helpers.quick_figures import DRAWN
from whinchat.arena.arena_figures import arena_figures, method_styles
from whinchat.arena.arena_results import ArenaResults, summarize_trials
from whinchat.arena.arena_tables import brief_results_table, comparisons_table, conclusions, results_table
from whinchat.arena.trials import Cost, LabelsResult, Trial, TrialJob, TrialRecord
from whinchat.errors import RunError
from whinchat.evaluation.metrics import compute_metrics
from whinchat.recipe.schema import EvaluateConfig
from whinchat.report.figures.run_figures import FigureSpec
from whinchat.report.figures.style import PNG_DPI

ROWS = 300
LABELS = ("bad", "fine", "good")
# Share of right answers: the simple method stays where it is, the chat model overtakes it, few-shot is in between.
SKILL = {"majority": {20: 0.3, 40: 0.3}, "tfidf": {20: 0.6, 40: 0.6}, "lora": {20: 0.4, 40: 0.9}, "few-shot": {20: 0.6}}


def result_for(trial: Trial, share: float) -> LabelsResult:
    draw = np.random.default_rng(trial.seed * 100 + trial.rows)
    expected = np.random.default_rng(0).integers(0, 3, ROWS)
    wrong = draw.random(ROWS) > share
    predicted = np.where(wrong, (expected + 1) % 3, expected)
    settings = EvaluateConfig(bootstrap_resamples=100)
    metrics = compute_metrics("score", LABELS, expected, predicted, settings, seconds=1.0)
    seconds = {"majority": 0.0, "few-shot": 0.001}.get(trial.method, trial.rows / 10)
    return LabelsResult(
        metrics=metrics,
        expected=tuple(expected.tolist()),
        predicted=tuple(predicted.tolist()),
        cost=Cost(1.0, seconds, 2.0, 2**30, None, 1000, 0 if trial.method == "few-shot" else 10),
        rows_used=6 if trial.method == "few-shot" else trial.rows,
        evaluated_on="rows",
        trained_on=f"{trial.rows}-{trial.seed}",
        machine={"processor": "p", "cores": "2", "device": "cpu"},
        versions={"torch": "1"},
        notes={},
    )


Finished = tuple[Path, dict[Trial, TrialJob], dict[Trial, TrialRecord]]


@pytest.fixture
def finished(spec_file: MakeSpec) -> Finished:
    path = spec_file(methods=[*SKILL])
    _, jobs = jobs_of(path)
    return (
        path,
        jobs,
        {trial: TrialRecord(job, result_for(trial, SKILL[trial.method][trial.rows])) for trial, job in jobs.items()},
    )


def results_of(finished: Finished) -> ArenaResults:
    path, jobs, records = finished
    return summarize_trials(jobs_of(path)[0], records, list(jobs))


def test_means_and_spreads(finished: Finished) -> None:
    results = results_of(finished)
    assert (len(results.standings[0].summaries), results.missing, results.failed, results.notes) == (7, 0, (), ())
    _, _, records = finished
    lora = next(one for one in results.standings[0].summaries if (one.method, one.rows) == ("lora", 40))
    scores = [records[Trial("lora", 40, seed)].result.metrics.macro_f1 for seed in (1, 2, 3)]  # type: ignore[union-attr]
    assert lora.scores == tuple(scores)
    assert lora.mean_score == pytest.approx(np.mean(scores))
    assert (lora.low, lora.high) == (min(scores), max(scores))
    assert lora.over_rows.low < lora.mean_score < lora.over_rows.high
    # Of a mean of three, the interval is narrower than that of one, which a trial has.
    assert lora.over_rows.high - lora.over_rows.low < 0.12
    assert lora.answers_per_second == ROWS / 2
    few = next(one for one in results.standings[0].summaries if one.method == "few-shot")
    assert (few.rows, few.rows_used, few.seeds) == (None, 6, (1, 2, 3))
    assert few in results.standings[0].at(20)
    assert few in results.standings[0].at(40)


def test_verdicts_by_seed_against_the_best_simple_method(finished: Finished) -> None:
    found = {(one.rows, one.method): one for one in results_of(finished).standings[0].comparisons}
    assert {one.against for one in found.values()} == {"tfidf"}
    assert {key: one.verdict for key, one in found.items()} == {
        (20, "lora"): "worse",
        (40, "lora"): "better",
        (20, "few-shot"): "open",
        (40, "few-shot"): "open",
    }
    better = found[40, "lora"]
    _, _, records = finished
    gains = [
        records[Trial("lora", 40, seed)].result.metrics.macro_f1  # type: ignore[union-attr]
        - records[Trial("tfidf", 40, seed)].result.metrics.macro_f1  # type: ignore[union-attr]
        for seed in (1, 2, 3)
    ]
    assert better.gain == pytest.approx(np.mean(gains))
    assert better.over_seeds is not None
    # 4.303 is the 97.5 % quantile of t with two degrees of freedom.
    assert better.over_seeds.high - better.gain == pytest.approx(4.3027 * np.std(gains, ddof=1) / 3**0.5, rel=1e-4)


def test_in_words(finished: Finished) -> None:
    sentences = conclusions(results_of(finished))
    assert sentences[0].startswith("With 20 training rows: worse than tfidf: lora (-0.")
    assert "no clear difference from tfidf: few-shot (" in sentences[0]
    assert sentences[0].endswith("No method has been shown to be worth more than tfidf at this size.")
    assert sentences[1].startswith("With 40 training rows: better than tfidf, the best simple method: lora (+0.")
    assert "4 comparisons that were made" in sentences[2]
    rows = results_table(results_of(finished).standings[0]).rows
    assert [row[:2] for row in rows][-1] == ("6 shown", "few-shot")
    assert len(comparisons_table(results_of(finished).standings[0]).rows) == 4
    assert {len(row) for row in brief_results_table(results_of(finished).standings[0]).rows} == {
        len(brief_results_table(results_of(finished).standings[0]).columns)
    }


def test_two_seeds_make_no_claim(finished: Finished) -> None:
    path, jobs, records = finished
    some = {trial: record for trial, record in records.items() if trial.seed != 3}
    results = results_of((path, jobs, some))
    assert {one.verdict for one in results.standings[0].comparisons} == {"no claim"}
    assert results.missing == 7
    assert "no claim about lora, few-shot, which would take 3 seeds of both methods" in conclusions(results)[0]
    assert conclusions(results)[-1] == "7 trials were not run yet."


def test_failures_are_named(finished: Finished) -> None:
    path, jobs, records = finished
    trial = Trial("lora", 20, 2)
    records[trial] = TrialRecord(jobs[trial], None, "out of luck")
    assert conclusions(results_of((path, jobs, records)))[-1] == "Failed: lora, 20 rows, seed 2 (out of luck)."


@pytest.mark.parametrize(("field", "words"), [("evaluated_on", "evaluated on"), ("trained_on", "trained with")])
def test_different_rows_are_not_summed_up_together(finished: Finished, field: str, words: str) -> None:
    path, jobs, records = finished
    trial = Trial("lora", 20, 2)
    result = records[trial].result
    assert result is not None
    records[trial] = TrialRecord(jobs[trial], replace(result, **{field: "others"}))
    with pytest.raises(
        RunError, match=rf"trials were {words} different rows \(majority, 20 rows, .*lora, 20 rows, seed"
    ):
        results_of((path, jobs, records))


def test_other_machines_and_versions_are_noted(finished: Finished) -> None:
    path, jobs, records = finished
    trial = Trial("lora", 20, 2)
    result = records[trial].result
    assert result is not None
    other = replace(result, machine={**result.machine, "cores": "64"}, versions={"torch": "2"})
    records[trial] = TrialRecord(jobs[trial], other)
    machines, versions = results_of((path, jobs, records)).notes
    assert machines == "Times and memory come from different machines: p, 2; p, 64."
    assert versions == "Not all trials were run with the same versions: torch 1 and 2."


def test_figures(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in DRAWN.items():
        monkeypatch.setattr(FigureSpec, name, function)
    results = results_of(finished)
    drawn = arena_figures(results)
    assert [plot.name for plot in drawn] == ["learning_curve", "cost", "frontier"]
    assert "Best: lora with 40 rows" in drawn[0].alt
    for plot in drawn:
        png, svg = plot.write(tmp_path)
        assert png.read_bytes().startswith(b"\x89PNG")
        assert png.stat().st_size > 50 * PNG_DPI
        assert "</svg>" in svg.read_text(encoding="utf-8")
    assert len({(style.color, style.marker) for style in method_styles(results.standings[0]).values()}) == 4
    (standings,) = results.standings
    one_size = replace(standings, summaries=tuple(one for one in standings.summaries if one.rows != 20))
    assert [plot.name for plot in arena_figures(replace(results, standings=(one_size,)))] == ["cost", "frontier"]
    assert arena_figures(replace(results, standings=())) == ()
