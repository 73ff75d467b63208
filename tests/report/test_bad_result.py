"""A bad result is said in terminal, report, card and JSON, and is pushed only after a confirmation."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tests.helpers.command_line import Whinchat
from tests.helpers.finished_runs import finished_run
from tests.helpers.run_records import THREE, measured, run_record
from whinchat.cli.printing.results import print_run
from whinchat.errors import HubError
from whinchat.evaluation.results import Interval, Metrics
from whinchat.pipelines import push_run as push_module
from whinchat.recipe.schema import TrainConfig
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.card import build_card, eval_results
from whinchat.report.html import render_report
from whinchat.report.limitations import limitations
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def one_label(metrics: Metrics, label: int) -> Metrics:
    """``metrics`` of answers that are all ``label``."""
    size = len(metrics.labels)
    confusion = tuple(
        tuple(one.support if column == label else 0 for column in range(size)) for one in metrics.per_label
    )
    share = metrics.per_label[label].support / metrics.n
    values = {"accuracy": share, "macro_recall": 1 / size, "macro_f1": 2 * share / (1 + share) / size}
    return replace(metrics, confusion=confusion, invalid=(0,) * size, values=values)


def worse_record() -> RunRecord:
    record = run_record(trusted=False)
    return replace(record, before=record.after, after=record.before)


def test_a_run_that_helped_gets_no_warning() -> None:
    record = run_record()
    assert bad_result_warnings(record) == ()
    assert "Warning" not in str(build_card(record))
    assert "Warning" not in render_report(record)


def test_worse_than_before() -> None:
    record = worse_record()
    scored, generated = bad_result_warnings(record)[:2]
    before, after = record.before.score.macro_f1, record.after.score.macro_f1
    assert scored.startswith(
        f"Training made label scoring worse: macro-F1 fell from {before:.3f} to {after:.3f} on 600"
    )
    assert generated.startswith("Training made free generation worse: macro-F1 fell from")
    # loss: choice does not train free generation.
    choice = record.recipe.model_copy(update={"train": TrainConfig(loss="choice")})
    assert not any("generation" in warning for warning in bad_result_warnings(replace(record, recipe=choice)))
    other = replace(record.before, split_fingerprint="other")
    assert not any("worse" in warning for warning in bad_result_warnings(replace(record, before=other)))


@pytest.mark.parametrize(("label", "worse"), [(0, False), (2, True)])
def test_one_label_for_all_texts(label: int, worse: bool) -> None:
    record = run_record(generate=False, trusted=False)
    record = replace(record, after=replace(record.after, score=one_label(record.after.score, label)))
    warnings = bad_result_warnings(record)
    told = f"All 600 texts of validation get the same label with label scoring: {THREE[label]}."
    assert told in warnings
    # The first label is the most frequent one, so it is no worse than itself.
    assert any(warning.startswith("Always answering negative would be better") for warning in warnings) is worse


def test_calibrated_answers_worse_than_the_most_frequent_label() -> None:
    record = run_record()
    assert record.reliability is not None
    poor = measured(THREE, 0.0, mode="calibrated", seed=1)
    values = {**poor.values, "accuracy": 0.1, "macro_f1": 0.05}
    record = replace(
        record, reliability=replace(record.reliability, calibrated=replace(poor, values=values)), baselines=()
    )
    worse, constant = bad_result_warnings(record)
    assert worse.startswith("Training made calibrated answers worse: macro-F1 fell from")
    assert constant.startswith("Always answering negative would be better than calibrated")
    assert constant.endswith("against 0.050.")
    settings = record.recipe.evaluate.model_copy(update={"metric": "accuracy"})
    record = replace(record, recipe=record.recipe.model_copy(update={"evaluate": settings}))
    assert [warning.endswith("against 0.100.") for warning in bad_result_warnings(record)] == [False, False, True]


def test_no_better_than_tf_idf(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is said first, the terminal does not invite to use the classifier, and equal is not better."""
    record = run_record()
    print_run(record, tmp_path)
    good = capsys.readouterr().out
    assert "Try it: whinchat predict" in good
    assert "TF-IDF" in good
    majority, tfidf = record.baselines
    for better in (0.0, 0.1):
        values = {name: value + better for name, value in record.shipped.values.items()}
        strong = replace(tfidf, metrics=replace(tfidf.metrics, values=values))
        poor = replace(record, baselines=(majority, strong))
        (warning,) = bad_result_warnings(poor)
        assert warning.startswith("TF-IDF + logistic regression, trained on the same texts in seconds, is at least as")
        assert warning.endswith(
            f"calibrated answers: macro-F1 {values['macro_f1']:.3f} against {record.shipped.macro_f1:.3f}."
        )
        print_run(poor, tmp_path)
        said = capsys.readouterr().out
        assert said.startswith(f"warning: {warning}")
        assert "whinchat predict" not in said
        card = str(build_card(poor))
        assert card.index("> **Warning:** TF-IDF") < card.index("Macro-F1 rose")
    unsure = replace(tfidf, paired=replace(tfidf.paired, macro_f1_gain=0.01, interval=Interval(-0.02, 0.04)))
    assert any(
        "not shown that the classifier is better than TF-IDF" in sentence
        for sentence in limitations(replace(record, baselines=(unsure,)))
    )


def test_warnings_stand_first_in_card_report_and_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = worse_record()
    card, report = str(build_card(record)), render_report(record)
    assert card.index("> **Warning:** Training made label scoring worse") < card.index("## Prompt")
    assert report.index("<strong>Warning:</strong> Training made label scoring worse") < report.index("<nav")
    print_run(record, tmp_path)
    assert "warning: Training made label scoring worse" in capsys.readouterr().out
    # The model-index holds the figures as they are.
    assert {one.metric_value for one in eval_results(record)} >= {record.after.score.macro_f1}


@pytest.fixture
def bad_run(tiny_llama: Path, tmp_path: Path) -> Path:
    """A finished run whose evaluations before and after training have changed places."""
    path = shutil.copytree(finished_run(tiny_llama), tmp_path / "run")
    folder = RunFolder(path)
    record = folder.read()
    assert record.before.score.macro_f1 < record.after.score.macro_f1
    folder.write(replace(record, before=record.after, after=record.before))
    folder.reliability.unlink()
    folder.baselines.unlink()
    return path


def test_a_bad_run_is_pushed_only_after_a_confirmation(
    whinchat: Whinchat, bad_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_anything")  # a missing token is found before the run is looked at
    push = ("push", bad_run, "ann/words", "--base", "ann/tiny")
    refused = whinchat(*push)
    assert refused.code == 2
    assert "the result is bad: Training made label scoring worse" in refused.err
    assert "To push it anyway, add --yes" in refused.err
    listed = json.loads(whinchat(*push, "--dry-run", "--json").out)
    assert listed["warnings"][0].startswith("Training made label scoring worse")
    assert json.loads(whinchat("run", bad_run, "--out", bad_run, "--resume", "--json").out)["warnings"]

    def reached(*_: object) -> None:
        raise HubError("the hub was reached")

    monkeypatch.setattr(push_module, "connect_to_hub", reached)
    assert "the hub was reached" in whinchat(*push, "--yes").err
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def confirm(question: str, *, abort: bool, err: bool) -> None:
        asked.append(question)
        if len(asked) == 1:
            raise typer.Abort

    monkeypatch.setattr(typer, "confirm", confirm)
    declined = whinchat(*push)
    assert declined.code == 1
    assert "the hub was reached" not in declined.err
    confirmed = whinchat(*push)
    assert "the result is bad" in confirmed.err
    assert "the hub was reached" in confirmed.err
    assert asked == ["Push it to ann/words?"] * 2
