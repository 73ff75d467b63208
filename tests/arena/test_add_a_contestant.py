"""The contestant of docs/how-to/add-an-arena-contestant.md, added from outside the package and run as users run it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.helpers.arenas import MakeSpec, jobs_of
from whinchat.arena import contestant_registry
from whinchat.arena.contestant_registry import ContestantKind, contestant_kinds, find_kind, register_contestant
from whinchat.arena.contestants import make_contestant
from whinchat.arena.run_arena import run_arena
from whinchat.arena.spec import PRESETS, Method, load_arena, resolve_arena
from whinchat.arena.trial_process import run_trial
from whinchat.errors import RecipeError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-an-arena-contestant.md"
CLASS = "word_counts:NaiveBayes"


@pytest.fixture(autouse=True)
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the page's module, and put it where this process and the trials' processes can import it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "word_counts.py").write_text(blocks[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(contestant_registry, "_KINDS", dict(contestant_registry._KINDS))


def test_a_class_of_another_package_runs_in_its_own_process(spec_file: MakeSpec, tmp_path: Path) -> None:
    register_contestant("bayes", CLASS, "simple")
    methods = [{"name": "by-class", "kind": CLASS}, {"name": "by-name", "kind": "bayes"}]
    results = run_arena(str(spec_file(methods=methods, rows=[60], seeds=[1])), tmp_path / "out")
    assert results.failed == ()
    assert [(summary.method, summary.kind) for summary in results.standings[0].summaries] == [
        ("by-class", CLASS),
        ("by-name", "bayes"),
    ]
    first, second = (summary.mean_score for summary in results.standings[0].summaries)
    assert first == second > 0.7, "a guess reaches a third"
    assert (tmp_path / "out" / "cost.png").is_file()


def test_it_answers_questions_with_a_copy_for_each_decision(questions_file: MakeSpec) -> None:
    _, jobs = jobs_of(questions_file(methods=[{"name": "by-class", "kind": CLASS}], rows=[80]))
    result = run_trial(next(iter(jobs.values()))).result
    assert result is not None
    assert [question.name for question in result.questions] == ["mood", "rain", "quality", "tags"]
    assert min(question.score for question in result.questions) > 0.5


def test_its_family_is_the_one_that_the_class_names() -> None:
    assert find_kind(CLASS) == ContestantKind(CLASS, "simple")
    assert Method.model_validate({"name": "nb", "kind": CLASS}).flat is False


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "nowhere:Thing",
            r"kind: nowhere:Thing cannot be imported \(No module named 'nowhere'\); install its package, or",
        ),
        ("word_counts:Thing", r"kind: word_counts:Thing cannot be imported \(module 'word_counts' has no attribute"),
        (
            "word_counts:Split",
            r"kind: word_counts:Split is no contestant; derive the class from whinchat\.arena\.contest",
        ),
    ],
)
def test_classes_that_cannot_be_used(spec_file: MakeSpec, kind: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_arena(str(spec_file(methods=[{"name": "mine", "kind": kind}])))


def test_malformed_and_taken_names() -> None:
    for name, target, family in (("a:b", CLASS, "simple"), ("a", "no-class", "simple"), ("a", CLASS, "best")):
        with pytest.raises(ValueError, match=r"expected a plain name, package\.module:Class, a family"):
            register_contestant(name, target, family)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'tfidf' is .*baselines:TfIdf already; choose another"):
        register_contestant("tfidf", CLASS)


def test_the_registry_and_the_classes_agree_on_the_family(spec_file: MakeSpec) -> None:
    arena = resolve_arena(load_arena(str(spec_file(methods=[*PRESETS]))))
    kinds = {method.kind: method for method in arena.spec.methods}
    for kind in contestant_kinds():
        contestant = make_contestant(kinds[kind], arena.base)
        assert contestant.family == find_kind(kind).family
