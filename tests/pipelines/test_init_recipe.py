"""The first recipe for a table: it runs as written, whatever the table holds, or is refused with a reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers import finished_runs
from whinchat.data.column_guess import ColumnProfile
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, OutputError
from whinchat.pipelines.init_recipe import InitResult, init_recipe
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.recipe_draft import choose_class_weights

# Labels that YAML, a list in a sentence, or a terminal could break.
HARD = (
    "no", "1.0", "2024-01-01", "007", "late: very late", 'the "fragile" kind', "Größe & Umtausch", "null", "a, b", "#1",
    "- dash", "返品",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_table(labels: Iterable[str], columns: Sequence[str] = ("body", "team"), name: str = "t.csv") -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row, label in enumerate(labels):
            table.writerow([f"where is parcel number {row} of {name} please", label])


def init(source: str = "t.csv", **options: str) -> InitResult:
    result = init_recipe(source, **options)
    # The recipe that was written splits, trains and measures: the check opens the data.
    assert result.check.errors == ()
    load_corpus(load_recipe(str(result.path)))
    return result


def test_hard_labels_stay_what_they_are() -> None:
    write_table(HARD[row % 12] for row in range(240))
    result = init()
    recipe = load_recipe("t.yaml")
    assert set(recipe.task.labels) == set(HARD)
    assert result.labels == dict.fromkeys(recipe.task.labels, 20)
    assert all(label in recipe.task.instruction for label in HARD)
    assert (recipe.name, recipe.data.text_column, recipe.data.label_column) == ("t", "body", "team")
    assert (recipe.data.validation_rows, recipe.data.test_rows, recipe.train.class_weights) == (0.1, 0.1, "none")
    assert result.check.labels["test"] == dict.fromkeys(recipe.task.labels, 2)


def test_a_file_is_not_overwritten() -> None:
    write_table("ab" * 30)
    init()
    Path("t.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"^t\.yaml: already exists; replace it with --overwrite"):
        init_recipe("t.csv")
    assert Path("t.yaml").read_text(encoding="utf-8") == "mine"
    assert init_recipe("t.csv", overwrite=True).check.errors == ()
    assert init_recipe("t.csv", Path("new/other.yaml")).path == Path("new/other.yaml")


def test_columns_are_told_by_what_they_hold() -> None:
    """An identifier, a date, a number and a person beside texts in two columns and labels."""
    columns = ("id", "customer_id", "title", "body", "category", "score", "opened")
    rows = [
        (row, row % 7, f"short title {row}", f"a much longer text with many words in it, number {row}", "xyz"[row % 3],
         row / 7, f"2026-01-{row % 28 + 1:02d}")
        for row in range(60)
    ]  # fmt: skip
    with Path("t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    result = init()
    assert (result.text_column, result.label_column) == ("body", "category")
    assert result.notes == ("Texts are in 'body', the longest; 'title' may hold texts, too (--text).",)
    assert init_recipe("t.csv", Path("2.yaml"), text="title", label="customer_id").label_column == "customer_id"
    with pytest.raises(DataError, match=r"t\.csv: no column 'titel'; did you mean title\?.*with --text"):
        init_recipe("t.csv", Path("3.yaml"), text="titel")


def test_several_columns_that_may_hold_the_labels() -> None:
    rows = [(f"text number {row} of many", "ab"[row % 2], "xyz"[row % 3]) for row in range(60)]
    with Path("t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "first", "second"), *rows])
    with pytest.raises(DataError, match=r"several columns may hold the labels; name it with --label: 'first' \(2 diff"):
        init_recipe("t.csv")
    assert not Path("t.yaml").exists()
    asked: list[tuple[str, list[str]]] = []

    def ask(content: str, candidates: Sequence[ColumnProfile]) -> str:
        asked.append((content, [column.name for column in candidates]))
        return candidates[-1].name

    assert init_recipe("t.csv", ask=ask).label_column == "second"
    assert asked == [("texts", ["text"]), ("labels", ["first", "second"])]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([f"label {row}" for row in range(500)], "no column looks like labels"),
        (["same"] * 40, "no column looks like labels"),
        (["a", "b"] * 20 + ["bell\x07"] * 4, r"the label 'bell\\x07' holds U\+0007"),
        (["a", "b"] * 20 + ["\u200b"] * 4, "4 labels cannot be seen"),
    ],
)
def test_labels_that_cannot_be_learned(labels: list[str], message: str) -> None:
    write_table(labels)
    with pytest.raises(DataError, match=message):
        init_recipe("t.csv")
    assert not Path("t.yaml").exists()


def test_too_many_labels_in_a_named_column() -> None:
    write_table([f"label {row}" for row in range(500)] * 2)
    with pytest.raises(DataError, match=r"t\.csv: 'team' holds 500 different labels; whinchat init takes up to 200"):
        init_recipe("t.csv", label="team")
    write_table(["same"] * 40)
    with pytest.raises(DataError, match=r"holds fewer than two labels \('same'\)"):
        init_recipe("t.csv", label="team")


def test_spellings_of_one_label_are_joined() -> None:
    write_table([*["Billing"] * 30, *["BILLING "] * 5, *["shipping  late"] * 20, *["shipping\nlate", "\ufb01ne"] * 6,
                 *["fine"] * 9])  # fmt: skip
    result = init()
    assert result.labels == {"Billing": 35, "fine": 15, "shipping late": 26}
    assert load_recipe("t.yaml").data.label_map == {
        "shipping  late": "shipping late",
        "shipping\nlate": "shipping late",
    }
    assert result.notes[0].startswith("Labels that look alike are joined (data.label_map): 'shipping  late' as ")


def test_empty_cells_are_left_out_and_counted() -> None:
    write_table(["a", "b", "c"] * 20 + ["", " "])
    with Path("t.csv").open("a", encoding="utf-8") as table:
        table.write("  ,a\n")
    result = init()
    assert result.notes[0] == "3 rows without a text or a label will be left out (data.drop_empty)."
    corpus = load_corpus(load_recipe("t.yaml"))
    assert corpus.report.empty == 3
    assert sum(len(corpus.split(name)) for name in ("train", "validation", "test")) == 60
    with pytest.raises(DataError, match=r"1 row has no text.*leave them out with data\.drop_empty: true"):
        load_corpus(load_recipe("t.yaml", ["data.drop_empty=false"]))


def test_numbers_as_labels_and_a_label_with_one_row() -> None:
    write_table([*["1", "2", "10"] * 20, "3"])
    result = init()
    assert list(result.labels) == ["1", "2", "3", "10"]
    assert result.notes[0].startswith("The labels are numbers. Models understand words better")
    assert result.notes[1] == "Fewer than 10 rows: '3'. They are trained on, but hardly measured; add rows."
    weights = load_recipe("t.yaml").train.class_weights
    assert weights == choose_class_weights(result.labels)
    assert isinstance(weights, dict)
    assert weights["3"] == 10


def test_label_weights() -> None:
    assert choose_class_weights({"a": 20, "b": 10}) == "none"
    assert choose_class_weights({"a": 30, "b": 10}) == "balanced"
    assert choose_class_weights({"a": 9_000, "b": 900, "c": 100}) == {"a": 0.37, "b": 3.704, "c": 10}


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_every_format(suffix: str) -> None:
    rows = [{"text": f"some text of row {row}", "flag": row % 2 == 0} for row in range(60)]
    path = Path(f"t.{suffix}")
    if suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    elif suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("text\tflag\n" + "".join(f"{row['text']}\t{row['flag']}\n" for row in rows), encoding="utf-8")
    labels = init(path.name).labels
    assert {label.casefold(): rows for label, rows in labels.items()} == {"true": 30, "false": 30}


def test_splits_that_the_source_has() -> None:
    Path("parts").mkdir()
    for name in ("train", "dev", "test"):
        write_table("abc" * 20, name=f"parts/{name}.csv")
    init("parts")
    recipe = load_recipe("parts.yaml")
    assert (recipe.data.validation_rows, recipe.data.test_rows) == ("auto", "auto")
    Path("parts/dev.csv").unlink()
    init_recipe("parts", overwrite=True)
    assert load_recipe("parts.yaml").data.validation_rows == 0.1
    finished_runs.write_tweeteval(Path("tweets"))
    assert sum(init("tweets").labels.values()) == 180
    assert load_recipe("tweets.yaml").task.labels == ("negative", "neutral", "positive")
    # A column that names splits is no label, and is told.
    rows = [(f"text number {row} of many", "ab"[row % 2], ("train", "dev")[row % 10 == 0]) for row in range(60)]
    with Path("t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "mark", "split"), *rows])
    result = init()
    assert result.label_column == "mark"
    assert result.notes[0].startswith("The column 'split' names splits, which whinchat reads from files")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.csv", r"nowhere\.csv: no such file or folder"),
        ("hub:owner/name", "init looks at tables and folders on this machine"),
        ("t.xlsx", r"t\.xlsx: is not a table that whinchat can read; save it as CSV"),
        ("numbers.csv", "no column looks like texts; name it with --text"),
    ],
)
def test_sources_that_are_refused(source: str, message: str) -> None:
    Path("t.xlsx").write_bytes(b"PK")
    Path("numbers.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        init_recipe(source)


def test_more_rows_take_fewer_epochs_and_larger_batches() -> None:
    settings = {}
    for rows in (20, 200, 2000, 9000):
        write_table("ab" * (rows // 2))
        init_recipe("t.csv", overwrite=True)
        train = load_recipe("t.yaml").train
        settings[rows] = (train.num_train_epochs, train.per_device_train_batch_size)
    assert settings == {20: (10, 4), 200: (10, 8), 2000: (4, 16), 9000: (1, 16)}
