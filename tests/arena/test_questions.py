"""Arenas over a task with questions: every kind of contestant, the standings of each question and their mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score
from sklearn.pipeline import make_pipeline

from tests.helpers.arenas import MakeSpec, jobs_of
from tests.helpers.command_line import Whinchat
from tests.helpers.quick_figures import DRAWN
from whinchat.arena import run_arena as runner
from whinchat.arena.arena_figures import arena_figures
from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.arena_results import ArenaResults, summarize_trials
from whinchat.arena.arena_tables import comparisons_table, conclusions, results_table
from whinchat.arena.contestants import Contestant, make_contestant
from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.arena.resampled_scores import _resample
from whinchat.arena.run_arena import run_arena, run_trial_job
from whinchat.arena.spec import load_arena, resolve_arena
from whinchat.arena.subsets import training_rows
from whinchat.arena.trial_process import run_trial
from whinchat.arena.trials import (
    Cost,
    QuestionsResult,
    Trial,
    TrialDecision,
    TrialJob,
    TrialQuestion,
    TrialRecord,
)
from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RecipeError, RunError
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS, headline
from whinchat.evaluation.question_results import QuestionMetrics
from whinchat.evaluation.scoring import score_prompts
from whinchat.recipe.question import QuestionType
from whinchat.report.figures.run_figures import FigureSpec

NAMES = ["mood", "rain", "quality", "tags"]
ROWS = 300


def first_job(path: Path) -> TrialJob:
    return next(iter(jobs_of(path)[1].values()))


def run_first(path: Path) -> QuestionsResult:
    record = run_trial(first_job(path))
    folder = ArenaFolder(path.parent)
    folder.write(record)
    assert folder.read([record.trial]) == {record.trial: record}
    assert isinstance(record.result, QuestionsResult)
    return record.result


@pytest.mark.parametrize(
    ("method", "trained"),
    [("majority", 1), ("tfidf", 1), ("zero-shot", 0), ("few-shot", 0), ("lora", 0.3), ("qdora", 0.3), ("full", 1)],
)
def test_every_kind_of_contestant(questions_file: MakeSpec, method: str, trained: float) -> None:
    shots = {"shots": 1} if method == "few-shot" else {}
    result = run_first(questions_file(methods=[{"name": method, **shots}], rows=[60]))
    assert [question.name for question in result.questions] == NAMES
    mood, rain, quality, tags = result.questions
    assert (result.evaluated_rows, len(rain.decisions[0].rows), len(tags.decisions)) == (20, 15, 2)
    pairs = [(one.expected, one.predicted) for question in result.questions for one in question.decisions]
    assert mood.score == pytest.approx(f1_score(*pairs[0], average="macro", labels=sorted(set(pairs[0][0]))))
    assert rain.score == pytest.approx(f1_score(*pairs[1], zero_division=0))
    assert quality.score == pytest.approx(cohen_kappa_score(*pairs[2], weights="quadratic", labels=[0, 1, 2]))
    assert tags.score == pytest.approx(np.mean([f1_score(*pair, zero_division=0) for pair in pairs[3:]]))
    assert rain.metrics.values["auc_pr"] is not None
    share = result.cost.trainable_parameters / result.cost.parameters
    assert share == trained if trained in (0, 1) else 0 < share < trained
    assert result.rows_used == {"zero-shot": 0, "few-shot": 4}.get(method, 60)


def test_simple_methods_learn_the_toy_questions_and_chance_does_not(questions_file: MakeSpec) -> None:
    learned, chance = (run_first(questions_file(methods=[name], rows=[80])) for name in ("tfidf", "majority"))
    assert min(question.score for question in learned.questions) > 0.9
    assert chance.questions[2].score == 0, "a constant level agrees as often as by chance"
    assert len(set(chance.questions[2].decisions[0].predicted)) == 1


def test_one_adapter_learns_all_questions(questions_file: MakeSpec) -> None:
    steps = ["train.max_steps=80", "train.learning_rate=1e-2", "train.per_device_train_batch_size=16"]
    result = run_first(questions_file(methods=[{"name": "lora", "set": steps}], rows=[90]))
    assert result.notes["steps"] == "80"
    assert min(question.score for question in result.questions) > 0.5


@pytest.mark.parametrize("method", ["few-shot", "lora"])
def test_answers_are_those_of_each_prompt_alone(questions_file: MakeSpec, method: str) -> None:
    shots = {"shots": 1} if method == "few-shot" else {}
    job = first_job(questions_file(methods=[{"name": method, **shots}], rows=[60]))
    corpus = load_corpus(job.recipe)
    contestant = make_contestant(job.method, job.recipe)
    assert isinstance(contestant, ChatModel)
    contestant.load()
    contestant.fit_task(training_rows(corpus.train, 60, 1, "x"))
    together = contestant.answer_task(corpus.split("test").texts)
    for engine, scores in zip(contestant.engines(), together, strict=True):
        alone = score_prompts(engine, engine.template.encode(corpus.split("test").texts), 1)
        np.testing.assert_allclose(scores, alone, rtol=1e-5)


class LoadedRegression(Contestant):
    """A contestant that fits what it loaded, so that its copies must not share it."""

    def load(self) -> None:
        self.model = make_pipeline(CountVectorizer(), LogisticRegression())

    def fit(self, train: Split) -> int:
        self.model.fit(train.texts, train.labels)
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = self.model.predict_log_proba(texts)
        return scores

    def parameters(self) -> tuple[int, int]:
        return self.model[-1].coef_.size, self.model[-1].coef_.size


def test_copies_of_a_contestant_do_not_share_what_they_fit(questions_file: MakeSpec) -> None:
    job = first_job(questions_file(rows=[60]))
    corpus = load_corpus(job.recipe)
    train, texts = training_rows(corpus.train, 60, 1, "x"), corpus.split("test").texts
    contestant = LoadedRegression(job.method, job.recipe)
    contestant.load()
    contestant.fit_task(train)
    for index, scores in enumerate(contestant.answer_task(texts)):
        alone = LoadedRegression(job.method, job.recipe)
        alone.load()
        alone.fit(train.of_decision(index))
        np.testing.assert_array_equal(scores, alone.answer(texts))


def test_a_rare_option_is_always_answered_as_in_training(questions_file: MakeSpec) -> None:
    job = first_job(questions_file(methods=["tfidf"]))
    rows = tuple((row % 4, row % 2, row % 3, 0, None if row else 1) for row in range(24))
    train = Split("train", tuple(f"day {row % 4}" for row in range(24)), (0,) * 24, answers=rows)
    contestant = make_contestant(job.method, job.recipe)
    contestant.fit_task(train)
    never, always = contestant.answer_task(["day 1", "day 2"])[3:]
    assert (never.argmax(axis=1).tolist(), always.argmax(axis=1).tolist()) == ([0, 0], [1, 1])
    assert np.isfinite(never).all()
    assert contestant.notes["tags: train: regression"] == "none, all training rows are no"
    assert contestant.parameters_of_task()[0] == contestant.parameters_of_task()[1] > 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"methods": ["head-lora"]},
            "head-lora: kind: head has one classification head, so it takes a task with labels",
        ),
        (
            {"methods": [{"name": "lora", "set": ["task.questions.mood.type=multi"]}]},
            "as must names, types and options of task.questions; set them for the arena",
        ),
    ],
)
def test_methods_that_cannot_be_compared(questions_file: MakeSpec, fields: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_arena(load_arena(str(questions_file(**fields))))
    assert message in str(caught.value)


def test_a_question_may_be_asked_in_other_words_by_a_method(questions_file: MakeSpec) -> None:
    other = {"name": "reworded", "kind": "prompting", "set": ["task.questions.mood.instructions=What mood?"]}
    assert len(jobs_of(questions_file(methods=["zero-shot", other]))[1]) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rows": [1], "seeds": [*range(20)]},
            "rows: among the 1 training rows of seed .* none has an answer to .*; raise rows",
        ),
        (
            {"set": ["evaluate.rows=1"]},
            r"in the 1 evaluated rows of test, answers to \w+ are missing or all alike, so that its .* is not defined",
        ),
    ],
)
def test_rows_without_the_answers_that_a_question_needs(
    questions_file: MakeSpec, tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run_arena(str(questions_file(methods=["majority"], **fields)), tmp_path / "out")
    assert not (tmp_path / "out" / "arena.yaml").exists()


def test_the_command(
    questions_file: MakeSpec, tmp_path: Path, whinchat: Whinchat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial in a process of its own, the others in this one."""
    ran: list[Trial] = []

    def in_process(job: TrialJob, folder: ArenaFolder) -> TrialRecord:
        ran.append(job.trial)
        if len(ran) == 1:
            return run_trial_job(job, folder)
        folder.write(run_trial(job))
        return folder.read([job.trial])[job.trial]

    monkeypatch.setattr(runner, "run_trial_job", in_process)
    path, out = questions_file(methods=["majority", "lora"], rows=[40, 60]), tmp_path / "out"
    said = whinchat("arena", path, "--out", out)
    assert said.code == 0, said
    assert "[1/12] majority, 40 rows, seed 1: mood: macro-F1 0." in said.err
    assert "Mean over questions, 40 training rows: " in said.out
    shown = json.loads(whinchat("arena", path, "--out", out, "--json").out)
    assert len(ran) == 12, "what is done is not done again"
    assert [one["question"] for one in shown["standings"]] == [None, *NAMES]
    figures = [
        f"{kind}{name}"
        for kind in ("cost", "frontier", "learning_curve")
        for name in ("", *(f"_{name}" for name in NAMES))
    ]
    assert sorted(file.stem for file in out.glob("*.png")) == sorted(figures)
    changed = whinchat("arena", path, "--out", out, "--set", "task.questions.mood.instructions=What mood?")
    assert "12 trials were run with other settings: " in changed.err
    assert "(task.questions.mood.instructions)" in changed.err
    page = (out / "results.md").read_text(encoding="utf-8")
    assert "## Arena: mean over questions" in page
    assert page.count("| memory |") == 1, "costs are the same in all questions"
    assert "## Against the best simple method: quality" in page


# Share of right answers of each method; lora knows the team better than tfidf, and the urgency worse.
SKILL = {
    "majority": {"team": 0.3, "urgency": 0.3, "tags": 0.5},
    "tfidf": {"team": 0.5, "urgency": 0.85, "tags": 0.7},
    "lora": {"team": 0.9, "urgency": 0.65, "tags": 0.7},
}


def by_hand(trial: Trial) -> QuestionsResult:
    """Return a result with the method's share of right answers; two of three rows lack the urgency."""
    draw, truth = np.random.default_rng(trial.seed * 100 + trial.rows), np.random.default_rng(0)
    kinds: dict[str, QuestionType] = {"team": "choice", "urgency": "score", "tags": "multi"}
    questions = []
    for name, kind in kinds.items():
        rows = np.arange(ROWS)[:: 3 if name == "urgency" else 1]
        decisions, f1 = [], []
        for _ in range(2 if kind == "multi" else 1):
            size = 2 if kind == "multi" else 3
            expected = truth.integers(0, size, len(rows))
            wrong = draw.random(len(rows)) > SKILL[trial.method][name]
            predicted = np.where(wrong, (expected + 1) % size, expected)
            columns = (tuple(column.tolist()) for column in (rows, expected, predicted))
            decisions.append(TrialDecision(*columns, size=size))
            f1.append(f1_score(expected, predicted, average="binary" if kind == "multi" else "macro"))
        score = cohen_kappa_score(expected, predicted, weights="quadratic") if kind == "score" else np.mean(f1)
        others = dict.fromkeys(QUESTION_METRICS[kind], 0.5) | {"mae": None}
        metrics = QuestionMetrics("score", others | {headline(kind).name: float(score)}, {})
        questions.append(TrialQuestion(name, kind, metrics, tuple(decisions)))
    return QuestionsResult(
        cost=Cost(1.0, 1.0, 2.0, 2**30, None, 1000, 10),
        rows_used=trial.rows,
        evaluated_on="rows",
        trained_on=f"{trial.rows}-{trial.seed}",
        machine={"processor": "p", "cores": "2", "device": "cpu"},
        versions={"torch": "1"},
        notes={},
        evaluated_rows=ROWS,
        questions=tuple(questions),
    )


@pytest.fixture
def results(questions_file: MakeSpec) -> ArenaResults:
    spec, jobs = jobs_of(questions_file(methods=[*SKILL]))
    return summarize_trials(spec, {trial: TrialRecord(job, by_hand(trial)) for trial, job in jobs.items()}, list(jobs))


def test_standings_of_each_question_and_their_mean(results: ArenaResults) -> None:
    mean, *questions = results.standings
    assert [(one.question, one.metric, one.rows) for one in results.standings] == [
        (None, "mean of main metrics", 300),
        ("team", "macro-F1", 300),
        ("urgency", "QWK", 100),
        ("tags", "macro-F1", 300),
    ]
    for summary, *own in zip(mean.summaries, *(one.summaries for one in questions), strict=True):
        assert summary.mean_score == pytest.approx(np.mean([one.mean_score for one in own]))
        assert list(summary.others.values()) == pytest.approx([one.mean_score for one in own])
        assert all(one.over_rows.low < one.mean_score < one.over_rows.high for one in (summary, *own))
    assert questions[1].summaries[0].others["mae"] is None, "a metric that a seed lacks has no mean"


def test_each_question_has_its_own_verdicts(results: ArenaResults) -> None:
    assert [{one.verdict for one in standings.comparisons} for standings in results.standings] == [
        {"open"},
        {"better"},
        {"worse"},
        {"open"},
    ]
    assert {one.against for standings in results.standings for one in standings.comparisons} == {"tfidf"}
    sentences = conclusions(results)
    assert sentences[0].startswith("Mean over questions, 20 training rows: no clear difference")
    assert any(
        sentence.startswith("team (macro-F1), 40 training rows: better than tfidf, the best simple method: lora (+0.")
        for sentence in sentences
    )
    assert "8 comparisons that were made" in sentences[-1]
    columns = ("rows", "method", "mean of main metrics", "seeds", "95 % over rows", "team: macro-F1")
    assert results_table(results.standings[0]).columns[:6] == columns
    assert comparisons_table(results.standings[2]).caption == "Against the best simple method: urgency"


@pytest.mark.parametrize("method", SKILL)
def test_a_resample_of_every_row_once_has_the_metric_itself(method: str) -> None:
    for question in by_hand(Trial(method, 20, 1)).questions:
        assert _resample(question, np.ones((2, ROWS))) == pytest.approx([question.score] * 2)


def test_an_undefined_metric_is_refused(results: ArenaResults) -> None:
    question = by_hand(Trial("lora", 20, 1)).questions[1]
    undefined = replace(question, metrics=replace(question.metrics, values={"qwk": None}))
    with pytest.raises(RunError, match=r"arena: urgency: quadratic weighted kappa \(QWK\) is not defined, because the"):
        _ = undefined.score


def test_figures(results: ArenaResults, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in DRAWN.items():
        monkeypatch.setattr(FigureSpec, name, function)
    drawn = arena_figures(results)
    kinds = ("learning_curve", "cost", "frontier")
    assert [figure.name for figure in drawn[:6]] == [*kinds, *(f"{kind}_team" for kind in kinds)]
    assert drawn[0].alt.startswith("Mean of main metrics over questions against the number of training rows. Best: ")
    assert drawn[6].alt.startswith("QWK of urgency against the number of training rows. Best: ")
    assert all("</svg>" in figure.svg() for figure in drawn)
