"""Answers to questions as sources spell them: cells, lists, shares, missing answers, and what cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tables import write_file
from whinchat.data.checks import answer_counts, rare_answer_warnings
from whinchat.data.dataset import Corpus, Split
from whinchat.data.labels import class_weights
from whinchat.data.sources import load_corpus, load_split, source_rows
from whinchat.errors import DataError
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe

QUESTIONS: dict[str, Any] = {
    "team": {"type": "choice", "instructions": "Which team?", "options": ["returns", "billing"]},
    "angry": {"type": "yes_no", "instructions": "Is the customer angry?"},
    "urgency": {"type": "score", "instructions": "How urgent?", "levels": ["1", "2", "3"]},
    "tags": {"type": "multi", "instructions": "Which apply?", "options": ["refund", "bug"]},
}
# Rows with which every option has a training row.
FULL = [
    {"text": "first of all", "team": "returns", "angry": "no", "urgency": "1", "tags": "refund"},
    {"text": "second of all", "team": "billing", "angry": "yes", "urgency": "2", "tags": "bug"},
    {"text": "third of all", "team": "billing", "angry": "yes", "urgency": "3", "tags": "[]"},
]


def recipe_for(source: object, questions: dict[str, Any] | None = None, **data: Any) -> Recipe:
    task = {"name": "tickets", "questions": QUESTIONS if questions is None else questions}
    section = {"source": str(source), "validation_rows": None, "test_rows": None, **data}
    return Recipe.model_validate({"name": "tickets", "task": task, "data": section, "backbone": {"model": "none"}})


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as CSV or TSV, JSON Lines or Parquet, by the suffix of ``path``."""
    if path.suffix == ".jsonl":
        return write_file(path, "".join(f"{json.dumps(row)}\n" for row in rows))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    names = list(rows[0])
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in cells)
    return write_file(path, "\n".join(quoted) + "\n")


def read_rows(path: Path, rows: list[dict[str, Any]], **data: Any) -> Split:
    """The training rows of a table of ``rows`` after those of FULL."""
    return load_corpus(recipe_for(write_rows(path, [*FULL, *rows]), **data)).train.take(
        range(len(FULL), len(FULL) + len(rows))
    )


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_cells_of_all_types_and_missing_answers(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": "a", "team": " Returns ", "angry": "TRUE", "urgency": "2.0", "tags": "bug, refund"},
        {"text": "b", "team": "billing", "angry": "0", "urgency": "", "tags": '["bug"]'},
        {"text": "c", "team": "", "angry": "", "urgency": "3", "tags": ""},
    ]
    train = read_rows(tmp_path / name, rows)
    assert train.answers == ((0, 1, 1, 1, 1), (1, 0, None, 0, 1), (None, None, 2, None, None))
    assert train.labels == (0, 1, 2)
    assert train.of_decision(2).texts == ("a", "c")


def test_typed_cells_of_jsonl(tmp_path: Path) -> None:
    cells = [
        {"team": "returns", "angry": True, "urgency": 2, "tags": ["bug"]},
        {"team": "returns", "angry": 0, "urgency": 3.0, "tags": []},
        {"team": "returns", "angry": None, "tags": None},
    ]
    train = read_rows(tmp_path / "t.jsonl", [{"text": str(number)} | row for number, row in enumerate(cells)])
    assert train.answers == ((0, 1, 1, 0, 1), (0, 0, 2, 0, 0), (0, None, None, None, None))


def test_class_names_of_lists_in_parquet(tmp_path: Path) -> None:
    rows = [
        {"text": text, "team": team, "angry": angry, "urgency": 1 + number, "tags": tags}
        for number, (text, team, angry, tags) in enumerate([("a", 0, 0, [0]), ("b", 1, 1, [1, 0]), ("c", 1, 1, [])])
    ]
    table = pyarrow.Table.from_pylist(rows)
    features = {
        "team": {"names": ["returns", "billing"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["bug", "refund"], "_type": "ClassLabel"}, "_type": "List"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "t.parquet")
    train = load_corpus(recipe_for(tmp_path / "t.parquet")).train
    assert train.answers == ((0, 0, 0, 0, 1), (1, 1, 1, 1, 1), (1, 1, 2, 0, 0))


def test_other_columns_maps_and_delimiters(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "queue": "R", "angry": "calm", "urgency": "low", "tags": "refund; Crash"},
        {"text": "b", "queue": "billing", "angry": "yes", "urgency": "2", "tags": "bug"},
        {"text": "c", "queue": "billing", "angry": "yes", "urgency": "3", "tags": "none"},
    ]
    recipe = recipe_for(
        write_rows(tmp_path / "t.csv", rows),
        answers={"team": "queue"},
        answer_map={
            "team": {"r": "returns"},
            "angry": {"calm": "no"},
            "urgency": {"low": "1"},
            "tags": {"crash": "bug"},
        },
        delimiter=";",
    )
    with pytest.raises(DataError, match=r"answers to tags .* \(refund, bug\): 'none' \(1 row, first .*t\.csv:4\); map"):
        load_corpus(recipe)
    rows[2]["tags"] = "[]"
    write_rows(tmp_path / "t.csv", rows)
    assert load_corpus(recipe).train.answers == ((0, 0, 0, 1, 1), (1, 1, 1, 0, 1), (1, 1, 2, 0, 0))


def test_an_option_that_never_has_the_largest_share_is_answered(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "urgency": 1 + number % 3, "tags": "[]", "share": 0.125} for number in range(12)]
    for row in rows[:6]:
        row["tags"] = json.dumps(["refund", "bug"])
    answers = {"team": {"billing": "share", "returns": "rest"}, "angry": {"yes": "share"}}
    rows = [row | {"rest": 0.875} for row in rows]
    recipe = recipe_for(write_rows(tmp_path / "t.csv", rows), answers=answers)
    train = load_corpus(recipe).train
    assert train.of_decision(1).counts(("no", "yes")) == {"no": 12, "yes": 0}
    assert train.of_decision(1).label_rows(("no", "yes")) == {"no": 10.5, "yes": 1.5}
    warnings = rare_answer_warnings(train, recipe.task)
    assert any("fewer than 10 training rows have the answer yes 1.5," in warning for warning in warnings)
    assert any("Question angry: no training row gives its largest share to yes." in warning for warning in warnings)
    weights = class_weights(
        recipe.train.model_copy(update={"class_weights": "balanced"}),
        ("no", "yes"),
        train.of_decision(1).labels,
        train.of_decision(1).shares,
    )
    assert weights == [12 / (2 * 10.5), 12 / (2 * 1.5)]
    with pytest.raises(DataError, match=r"angry: no training row is answered yes \(rows used: no 12, yes 0\)"):
        load_corpus(
            recipe_for(write_rows(tmp_path / "t.csv", [row | {"share": 0, "rest": 1} for row in rows]), answers=answers)
        )


def test_shares_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = ("returns", "billing", "is_angry", "refund", "bug")
    cells = [
        ("3", "1", "0.25", "1", "true"),
        ("", "2", "1", "0", "0.5"),
        ("0", "0", "", "", "0"),
        ("0.5", "0.5", "false", "1", ""),
        ("1", "", "0.75", "0", "0"),
        ("1", "", "0", "0", "0.75"),
    ]
    rows = [
        {"text": f"row {number}", "urgency": 1 + number % 3, **dict(zip(columns, row, strict=True))}
        for number, row in enumerate(cells)
    ]
    answers = {
        "team": {"billing": "billing", "returns": "returns"},
        "angry": {"yes": "is_angry"},
        "tags": {"refund": "refund", "bug": "bug"},
    }
    recipe = recipe_for(write_rows(tmp_path / "t.csv", rows), answers=answers)
    train = load_corpus(recipe).train
    assert train.answers == (
        ((0.75, 0.25), (0.75, 0.25), 0, 1, 1),
        (1, 1, 1, 0, (0.5, 0.5)),
        (None, None, 2, None, 0),
        ((0.5, 0.5), 0, 0, 1, None),
        (0, (0.25, 0.75), 1, 0, 0),
        (0, 0, 2, 0, (0.25, 0.75)),
    )
    assert train.labels == (0, 1, 2, 0, 0, 0)
    # A column with certain and uncertain answers gives shares for every row.
    assert train.of_decision(0).shares == ((0.75, 0.25), (0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1.0, 0.0))
    assert train.of_decision(2).shares == ()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"team": ["returns"]}, "team that cannot be read: 'team' holds a list; an answer is one text"),
        ({"tags": {"refund": True}}, "tags that cannot be read: 'tags' holds a dict"),
        ({"tags": ["refund", None]}, "'tags' holds a list with an empty item; an empty list says that no option"),
        ({"tags": ["refund", ["bug"]]}, "'tags' holds a list; a"),
        ({"tags": " , "}, r"'tags' holds ',', which names no option; \[\] says that none applies"),
        ({"tags": "['refund']"}, r"tags that are not among its options .* a cell holds a JSON list, or options"),
        ({"tags": "refund,buggy"}, "'buggy' .*did you mean bug"),
        ({"team": "Retruns"}, r"answers to team .*'Retruns' \(1 row, first .*t\.jsonl:4; did you mean returns"),
        ({"urgency": 4}, r"answers to urgency that are not among its levels \(1, 2, 3\): '4'"),
        ({"angry": "maybe"}, r"--set 'data\.answer_map\.angry=\{\"maybe\": OPTION\}'"),
        ({"text": " "}, "1 row has no text: .*t.jsonl:4; complete or remove such rows, or leave them out"),
        ({"team": "", "angry": None, "urgency": "", "tags": ""}, "1 row has no answer: .*t.jsonl:4; complete or"),
        ({"text": 3}, "'text' holds a int, not text"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, cells: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / "t.jsonl", [*FULL, FULL[0] | cells])
    with pytest.raises(DataError, match=message):
        load_corpus(recipe_for(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", "'-1'; a share is a number of zero or more"),
        ("inf", "'inf'; a share"),
        ("nan", "'nan'; a share"),
        ("1_0", "'1_0'; a share"),
        ("0,7", "'0,7'; a share"),
        ("1.5", "'is_angry' holds 1.5; the share of an option is from 0 to 1"),
    ],
)
def test_shares_that_cannot_be_read(tmp_path: Path, value: str, message: str) -> None:
    rows = [{"text": f"row {cell}", "is_angry": cell} for cell in ("0", "1", value)]
    questions = {"angry": QUESTIONS["angry"]}
    path = write_rows(tmp_path / "t.csv", rows)
    with pytest.raises(
        DataError, match=rf"answers to angry that cannot be read: .*{message}[^;]* \(1 row, first .*:4\)"
    ):
        load_corpus(recipe_for(path, questions, answers={"angry": {"yes": "is_angry"}}))


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    rows = [FULL[0] | {"team": "x"}, FULL[0] | {"team": "x", "angry": "?"}, FULL[0] | {"text": ""}]
    with pytest.raises(DataError) as error:
        load_corpus(recipe_for(write_rows(tmp_path / "t.csv", [*FULL, *rows])))
    assert [fault.partition(": ")[2][:16] for fault in error.value.faults] == [
        "1 row has no tex", "answers to team ", "answers to angry",
    ]  # fmt: skip
    assert "'x' (2 rows, first" in error.value.faults[1]


def test_rows_without_text_or_any_answer_can_be_left_out(tmp_path: Path) -> None:
    blank = {"team": "", "angry": "", "urgency": "", "tags": ""}
    rows = [FULL[0] | blank, *FULL, FULL[0] | {"text": "", "team": "no team"}, {"text": "last"} | blank | {"angry": 1}]
    recipe = recipe_for(write_rows(tmp_path / "t.csv", rows), drop_empty=True)
    corpus = load_corpus(recipe)
    assert (corpus.report.empty, len(corpus.train)) == (2, 4)
    assert corpus.train.answers[-1] == (None, 1, None, None, None)
    assert source_rows(recipe, corpus.train) == (1, 2, 3, 5)
    assert load_split(recipe).answers == corpus.train.answers


@pytest.mark.parametrize("value", ["team", "tags"])
def test_missing_columns_are_named(tmp_path: Path, value: str) -> None:
    rows = [{name: cell for name, cell in row.items() if name != value} for row in FULL]
    with pytest.raises(DataError, match=f"no column '{value}'.* with data.answers"):
        load_corpus(recipe_for(write_rows(tmp_path / "t.csv", rows)))


def test_sources_with_one_label_are_refused(tmp_path: Path) -> None:
    for name in ("train_text.txt", "train_labels.txt"):
        write_file(tmp_path / name, "a\n")
    for source in (tmp_path, "package:vader-tweets"):
        with pytest.raises(DataError, match=r"one text and one label a row, and task\.questions needs a column for"):
            load_corpus(recipe_for(source))


def many_rows(path: Path, rows: int = 60) -> Recipe:
    """A recipe whose table answers ``team`` in turns, and has two rows with the tag bug."""
    table = [
        {
            "text": f"text number {number}",
            "team": ("returns", "billing")[number % 2],
            "angry": ("no", "yes")[number % 3 == 0],
            "urgency": 1 + number % 3 if number % 5 else "",
            "tags": "bug" if number in (7, 40) else "refund" if number % 2 else "[]",
        }
        for number in range(rows)
    ]
    return recipe_for(write_rows(path, table), validation_rows=20, test_rows=20)


def test_splits_taken_out_of_train_keep_answers(tmp_path: Path) -> None:
    recipe = many_rows(tmp_path / "t.csv")
    whole = load_corpus(recipe_for(tmp_path / "t.csv")).train
    answers = dict(zip(whole.texts, whole.answers, strict=True))
    corpus: Corpus = load_corpus(recipe)
    for split in (corpus.train, corpus.validation, corpus.test):
        assert split is not None
        assert [answers[text] for text in split.texts] == list(split.answers)
        assert split.counts(("returns", "billing", "missing"))["missing"] == 0
    # Whatever the seed, each answer to each question has a row in train.
    for seed in range(5):
        load_corpus(recipe.model_copy(update={"data": recipe.data.model_copy(update={"split_seed": seed})}))
    assert answer_counts(corpus.train, recipe.task)["tags: bug"]["yes"] in (1, 2)
    warnings = rare_answer_warnings(corpus.train, recipe.task)
    rare = {warning.partition(" have ")[0] for warning in warnings}
    assert rare >= {f"Question {name}: fewer than 10 training rows" for name in ("angry", "urgency", "tags")}
    assert any(re.search(r"have the answer (.*, )?bug \(yes\) [12], from", warning) for warning in warnings)


def test_an_answer_without_a_training_row(tmp_path: Path) -> None:
    rows = [row | {"tags": "refund", "urgency": "1"} for row in FULL]
    with pytest.raises(DataError) as error:
        load_corpus(recipe_for(write_rows(tmp_path / "t.csv", rows)))
    assert [fault.partition(": ")[2] for fault in error.value.faults] == [
        "urgency: no training row is answered 2 or 3 (rows used: 1 3, 2 0, 3 0); add some, take more rows "
        "(data.train_rows), or take the question out of the recipe",
        "tags: refund: no training row is answered no (rows used: no 0, yes 3); add some, take more rows "
        "(data.train_rows), or take the option refund out of the question",
        "tags: bug: no training row is answered yes (rows used: no 3, yes 0); add some, take more rows "
        "(data.train_rows), or take the option bug out of the question",
    ]


def test_duplicates_are_in_conflict_where_a_question_is_answered_differently(tmp_path: Path) -> None:
    rows = [
        FULL[0] | {"team": ""},
        FULL[1] | {"tags": "refund"},
        FULL[2] | {"urgency": "1"},
    ]
    report = load_corpus(recipe_for(write_rows(tmp_path / "t.csv", [*FULL, *rows]))).report
    assert (report.duplicates_in_train, report.conflicting_duplicates) == (3, 2)


def test_leaks_are_dropped_with_their_answers(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    write_rows(folder / "train.csv", [FULL[0] | {"text": "leaked"}, *FULL])
    write_rows(folder / "test.jsonl", [FULL[2] | {"text": "Leaked"}])
    corpus = load_corpus(recipe_for(folder))
    assert (corpus.report.leaked, corpus.train.texts) == ({"test": 1}, tuple(row["text"] for row in FULL))
    assert corpus.test is not None
    assert corpus.train.answers[0] == (0, 0, 0, 1, 0)
    assert corpus.test.answers == ((1, 1, 2, 0, 0),)


def test_the_recipe_of_the_page_reads_its_table(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-data.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "questions:" in block)
    head = "name: page\nbackbone: {model: none}\n"
    path = write_file(tmp_path / "recipe.yaml", head + block.replace("task:\n", "task:\n  name: page\n", 1))
    rows = [
        {"title": "a", "body": "b", "queue": "R", "is_angry": "no", "urgency": "routine", "tags": "refund;bug;praise"},
        {"title": "", "body": "c", "queue": "billing", "is_angry": "1", "urgency": "soon", "tags": "[]"},
        {"title": "d", "body": "", "queue": "", "is_angry": "", "urgency": "today", "tags": ""},
    ]
    source = write_rows(tmp_path / "t.csv", rows)
    settings = (f"data.source={source}", "data.validation_rows=null", "data.test_rows=null")
    train = load_corpus(load_recipe(str(path), settings)).train
    assert train.texts == ("a\n\nb", "c", "d")
    assert train.answers == ((0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0), (None, None, 2, None, None, None))
