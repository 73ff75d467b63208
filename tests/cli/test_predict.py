"""``whinchat predict RUN INPUT --out OUTPUT`` labels a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import whinchat as package
from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat


def test_a_table_is_labelled(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=9, seed=4)
    with source.open("a", encoding="utf-8") as file:
        file.write("broken\n")
    arguments = ("predict", a_run, source, "--out", tmp_path / "out.csv", "--prefix", "said_")
    result = whinchat(*arguments, "--json")
    assert result.code == 0
    counts = json.loads(result.out)
    assert (counts["rows"], counts["bad"], len(counts["files"])) == (10, 1, 1)
    assert sum(counts["labels"].values()) == 9
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("text,label,said_label,said_unsure,said_p_")
    assert len(lines) == 11
    result = whinchat(*arguments)
    assert "10 rows" in result.out
    assert "column said_error" in result.out


def test_errors_with_out(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=3)
    for wrong, message in (
        ((source, source), "takes one table or folder to label, not 2"),
        ((), "takes one table or folder to label, not 0"),
        ((source,), "has a column 'label' already; choose a prefix"),
        ((tmp_path / "none.csv",), "no such file"),
    ):
        result = whinchat("predict", a_run, *wrong, "--out", tmp_path / "out.csv")
        assert result.code == 2
        assert message in result.err
    assert not (tmp_path / "out.csv.parts").exists()


@pytest.mark.parametrize("name", ["tweets.csv", "TWEETS.JSONL", "two words.tsv"])
def test_the_name_of_a_table_is_no_text(
    whinchat: Whinchat, a_run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(package.Predictor, "load", lambda path: pytest.fail("a model was loaded"))
    Path(name).write_text("text\na\n", encoding="utf-8")
    result = whinchat("predict", a_run, "a text", name)
    assert (result.code, result.out) == (2, "")
    assert f"{name}: is a table; to label its rows, add --out" in result.err


def test_a_text_that_may_be_meant_as_a_file_is_pointed_out(
    whinchat: Whinchat, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "notes").touch()
    monkeypatch.chdir(tmp_path)
    texts = ["good", "notes", "missing.csv", "I read a.csv", "x" * 5000, ""]
    result = whinchat("predict", a_run, *texts, "--json")
    assert result.code == 0
    assert [json.loads(line)["text"] for line in result.out.splitlines()] == texts
    assert "note: good is labelled as a text. It is also a folder; to label the tables in it, add --out" in result.err
    assert "note: notes is labelled as a text. It is also a file; to label each of its lines, use" in result.err
    assert "note: missing.csv is labelled as a text. It is also the name of a table, but there is no such" in result.err
    assert result.err.count("note: ") == 3


def test_a_dash_stands_for_standard_input(whinchat: Whinchat, a_run: Path) -> None:
    result = whinchat("predict", a_run, "-", "--json", stdin=b"tweets.csv\n\n  \nred\n")
    assert result.code == 0
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["text"] for line in lines] == ["tweets.csv", "", "  ", "red"]
    assert ["label" in line for line in lines] == [True, False, False, True]
    assert lines[1]["error"] == "the text is empty"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "predict: the text is empty"),
        ((" ", "\n"), "predict: the text is empty"),
        (("caf\udce9",), "caf\N{REPLACEMENT CHARACTER}: the argument holds bytes that are not UTF-8"),
        (("in.csv", "--out", "out.csv", "--prefix", "\udce9"), "the argument holds bytes that are not UTF-8"),
    ],
)
def test_texts_that_nothing_can_be_said_about(
    whinchat: Whinchat, a_run: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package.Predictor, "load", lambda path: pytest.fail("a model was loaded"))
    result = whinchat("predict", a_run, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_no_output_is_json_with_numbers_that_json_has_not(
    whinchat: Whinchat, a_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"label": "good", "unsure": False, "probabilities": {"good": float("nan")}}
    monkeypatch.setattr(package.Predictions, "to_dict", lambda self, row: wrong)
    result = whinchat("predict", a_run, "good", "--json")
    assert (result.code, result.out) == (2, "")
    assert "JSON cannot hold a number that is NaN or infinite" in result.err
