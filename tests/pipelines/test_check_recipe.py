"""The check of a recipe and its data: everything that is wrong at once, and what was not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from whinchat.pipelines.check_recipe import check_recipe

LABELS = ["billing", "shipping: late", "no"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"ticket number {row},{LABELS[row % 3]}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["message,team", *rows]) + "\n", encoding="utf-8")
    return tmp_path


def write_recipe(**sections: dict[str, Any]) -> str:
    task = {"name": "t", "labels": LABELS, "instruction": f"Answer with one of: {'; '.join(LABELS)}."}
    content = {
        "name": "t",
        "task": task | sections.pop("task", {}),
        "data": {"source": "t.csv", "text_column": "message", "label_column": "team"} | sections.pop("data", {}),
        "backbone": {"model": "owner/name"},
        **sections,
    }
    Path("t.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return "t.yaml"


def test_a_good_recipe(folder: Path) -> None:
    check = check_recipe(write_recipe())
    assert (check.errors, check.not_checked) == ((), ())
    assert check.warnings == ("The figures of the report will come from 6 rows of test, which say little; add rows.",)
    assert check.summary == (
        "Rows of t.csv: train 48; validation 6 (taken out of train); test 6 (taken out of train), measured"
    )
    assert check.labels == {name: dict.fromkeys(LABELS, rows) for name, rows in
                            (("train", 16), ("validation", 2), ("test", 2))}  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "errors"),
    [
        # Wrong keys, a wrong split and a missing column are told together.
        (
            {"adapter": {"rank": 4}, "data": {"label_column": "label", "shuffle": True}},
            ["t.yaml: data.shuffle: unknown key", "t.yaml: adapter.rank: unknown key", "t.csv: no column 'label'"],
        ),
        (
            {"data": {"text_column": "text", "label_column": "label"}},
            ["t.csv: no column 'text'", "t.csv: no column 'label'"],
        ),
        ({"data": {"source": "tickets.csv"}}, ["tickets.csv: no such file or folder in "]),
        (
            {"task": {"labels": ["billing", "refunds"]}},
            ["t.csv: labels that are not in task.labels (billing, refunds): 'shipping: late' (20 rows"],
        ),
        ({"task": {"labels": [*LABELS, "praise"]}}, ["t.csv: no training row is labelled praise"]),
        ({"data": {"validation_rows": None}}, ["t.csv: has no validation split (it has train)"]),
        (
            {"data": {"validation_rows": None, "test_rows": 0.2}, "train": {"eval_steps": 0.5}},
            ["t.csv: has no validation split to score during training"],
        ),
        ({"backbone": {"model": "./nowhere"}}, ["backbone.model: ./nowhere is neither a folder nor OWNER/NAME"]),
    ],
)
def test_errors(folder: Path, sections: dict[str, Any], errors: list[str]) -> None:
    found = check_recipe(write_recipe(**sections)).errors
    assert len(found) == len(errors), found
    for error, start in zip(found, errors, strict=True):
        assert error.startswith(start)


def test_rows_and_labels_are_wrong_together(folder: Path) -> None:
    with (folder / "t.csv").open("a", encoding="utf-8") as table:
        table.write(",billing\nhello,\nhello,praise\n")
    empty, unknown = check_recipe(write_recipe(task={"labels": ["billing", "no", "refunds"]})).errors
    assert empty.startswith("t.csv: 1 row has no text: t.csv:62; 1 row has no label: t.csv:63; complete or remove")
    # The labels of the data, quoted, to be pasted.
    assert unknown.endswith(
        "no row is labelled refunds; or take the labels of the data as task.labels, and name them in "
        "task.instruction:\n"
        '  labels:\n    - "billing"\n    - "no"\n    - "shipping: late"\n    - "praise"'
    )
    block = unknown.partition("task.instruction:\n")[2]
    assert yaml.safe_load(f"task:\n{block}") == {"task": {"labels": ["billing", "no", "shipping: late", "praise"]}}


def test_labels_that_yaml_takes_for_something_else_are_quoted(folder: Path) -> None:
    path = Path(write_recipe())
    path.write_text(path.read_text(encoding="utf-8").replace("'no'", "no"), encoding="utf-8")
    word, block = check_recipe(str(path)).errors
    assert "YAML reads no as true or false" in word
    assert block.endswith('in quotes, to paste:\n  labels:\n    - "billing"\n    - "shipping: late"\n    - "no"')


def test_warnings(folder: Path) -> None:
    with (folder / "t.csv").open("a", encoding="utf-8") as table:
        table.write("a rare thing,praise\nticket  number 0,no\n")
    check = check_recipe(write_recipe(task={"labels": [*LABELS, "praise"], "instruction": "Sort the NO billing."}))
    assert check.errors == ()
    assert [warning.partition(".")[0] for warning in check.warnings[:1]] == ["task"]
    assert "names 2 of the 4 labels; missing: shipping: late, praise" in check.warnings[0]
    assert "The validation split has no row of praise" in check.warnings[2]
    assert "The test split has no row of praise" in check.warnings[3]


def test_texts_on_both_sides(tmp_path: Path) -> None:
    rows = [f"text {row},{'ab'[row % 2]}" for row in range(40)]
    for name, part in (("train", [*rows[:30], "text 5,a"]), ("val", rows[30:]), ("test", [*rows[:3], *rows[36:]])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *part]) + "\n", encoding="utf-8")
    data = {"source": str(tmp_path), "text_column": "text", "label_column": "label"}
    (tmp_path / "x.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "x",
                "task": {"name": "x", "labels": ["a", "b"], "instruction": "Answer with a or b."},
                "data": data,
                "backbone": {"model": "owner/name"},
            }
        ),
        encoding="utf-8",
    )
    assert check_recipe(str(tmp_path / "x.yaml")).warnings[1:] == (
        "The texts of 3 rows of test also occur in train: the training rows with such a text are dropped.",
        "The texts of 4 rows of test also occur in validation, on which probabilities are calibrated.",
        "Training rows that repeat the text of an earlier row: 1, 1 of them with another label.",
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [("hub:owner/name", "on the Hugging Face hub"), ("package:vader-tweets", "not downloaded yet")],
)
def test_what_is_out_of_reach_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str) -> None:
    monkeypatch.setenv("WHINCHAT_CACHE", str(folder / "empty"))
    check = check_recipe(write_recipe(data={"source": source}))
    assert (check.errors, check.labels) == ((), {})
    assert [reason in note for note in check.not_checked] == [True]
    if source.startswith("package:"):
        ratings = check_recipe(write_recipe(data={"source": "tickets.csv", "soft_labels": "package:vader-ratings"}))
        assert ["package:vader-ratings was not opened" in note for note in ratings.not_checked] == [True]
    alone = check_recipe(write_recipe(data={"source": "tickets.csv"}), open_data=False)
    assert alone.errors == ()
    assert alone.not_checked == ("The data was not opened, as --no-data asks.",)


def test_every_table_format_tells_its_columns(folder: Path) -> None:
    (folder / "t.tsv").write_text("message\tteam\nhi\tno\n", encoding="utf-8")
    (folder / "t.jsonl").write_text('{"message": "hi", "team": "no"}\n', encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.table({"message": ["hi"], "team": ["no"]}), folder / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet"):
        data = {"source": name, "text_column": "text", "label_column": "label"}
        text, label = check_recipe(write_recipe(data=data)).errors
        assert text.startswith(f"{name}: no column 'text'")
        assert label.startswith(f"{name}: no column 'label'")
