"""Text formats: what is read, and what each fault says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from whinchat.data.formats.delimited import CsvFormat, TsvFormat
from whinchat.data.formats.jsonl import JsonlFormat
from whinchat.data.split_files import read_split_file, read_split_folder
from whinchat.data.tweeteval import read_tweeteval
from whinchat.data.vader import read_vader
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "tweeteval"


def data(**fields: Any) -> DataConfig:
    return DataConfig(source="unused", **fields)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tweeteval(folder: Path, texts: str, labels: str, split: str = "train") -> None:
    write(folder / f"{split}_text.txt", texts)
    write(folder / f"{split}_labels.txt", labels)


class TestTweetEval:
    def test_splits_and_mapping(self, tmp_path: Path) -> None:
        write(tmp_path / "mapping.txt", "0\tno\n1\tyes")
        tweeteval(tmp_path, "a\nb\n", "0\n1\n")
        tweeteval(tmp_path, "c\r\nd\r\n", "1\r\n0\r\n", "val")
        splits = read_tweeteval(tmp_path)
        assert list(splits) == ["train", "validation"]
        assert [(row.text, row.label) for row in splits["validation"]] == [("c", "yes"), ("d", "no")]
        assert splits["train"][1].where == f"{tmp_path}/train_text.txt:2"

    def test_only_newline_ends_a_text(self, tmp_path: Path) -> None:
        odd = "one\u2028still one\x85and\x0bon\x1c"
        tweeteval(tmp_path, f"{odd}\ntwo\n", "0\n1\n")
        assert [row.text for row in read_tweeteval(tmp_path)["train"]] == [odd, "two"]

    def test_unequal_counts(self, tmp_path: Path) -> None:
        tweeteval(tmp_path, "a\nb\n", "0\n")
        with pytest.raises(DataError, match=r"train_text\.txt has 2 lines but .*train_labels\.txt has 1; line N"):
            read_tweeteval(tmp_path)

    def test_unknown_id(self, tmp_path: Path) -> None:
        write(tmp_path / "mapping.txt", "0\tno\n")
        tweeteval(tmp_path, "a\nb\n", "0\n7\n")
        with pytest.raises(DataError, match=r"train_labels\.txt:2: label id '7' is not in mapping\.txt, which has 0"):
            read_tweeteval(tmp_path)

    def test_bad_mapping(self, tmp_path: Path) -> None:
        write(tmp_path / "mapping.txt", "0 no\n")
        tweeteval(tmp_path, "a\n", "0\n")
        with pytest.raises(DataError, match=r"mapping\.txt:1: found '0 no'; each line must read ID<TAB>NAME"):
            read_tweeteval(tmp_path)

    def test_missing_partner_and_missing_train(self, tmp_path: Path) -> None:
        write(tmp_path / "val_text.txt", "a\n")
        with pytest.raises(DataError, match=r"val_labels\.txt: no such file"):
            read_tweeteval(tmp_path)
        write(tmp_path / "val_labels.txt", "0\n")
        with pytest.raises(DataError, match=r"no train_text\.txt and train_labels\.txt"):
            read_tweeteval(tmp_path)

    @pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/tweeteval is not on this machine")
    @pytest.mark.parametrize(
        ("task", "rows"),
        [
            ("sentiment", {"train": 47470, "validation": 2000}),
            ("emotion", {"train": 3257, "validation": 374, "test": 1421}),
            ("irony", {"train": 2862, "validation": 955, "test": 784}),
        ],
    )
    def test_real_files(self, task: str, rows: dict[str, int]) -> None:
        assert {name: len(split) for name, split in read_tweeteval(SHARED / task).items()} == rows


class TestDelimited:
    def test_quoted_newlines_and_separators(self, tmp_path: Path) -> None:
        body = 'label,text\npos,"two\nlines, ""quoted"""\n\nneg,a\u2028b\n'
        rows = CsvFormat.read_labelled_rows(write(tmp_path / "my.csv", body), data())
        assert [row.text for row in rows] == ['two\nlines, "quoted"', "a\u2028b"]
        assert [row.where for row in rows] == [f"{tmp_path}/my.csv:2", f"{tmp_path}/my.csv:5"]

    def test_bom_crlf_and_tabs(self, tmp_path: Path) -> None:
        rows = TsvFormat.read_labelled_rows(
            write(tmp_path / "my.tsv", b"\xef\xbb\xbftext\tlabel\r\na, b\tpos\r\n"), data()
        )
        assert [(row.text, row.label) for row in rows] == [("a, b", "pos")]

    def test_other_columns(self, tmp_path: Path) -> None:
        path = write(tmp_path / "my.csv", "id,tweet,class\n1,hello,pos\n")
        row = CsvFormat.read_labelled_rows(path, data(text_column="tweet", label_column="class"))[0]
        assert (row.text, row.label) == ("hello", "pos")

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("texts,label\na,b\n", r"my\.csv:1: no column 'text'; did you mean texts\? Columns found: texts, label\. "
             r"Name the right one with data\.text_column"),
            ("text,foo\na,b\n", r"no column 'label'\. Columns found: text, foo\. .* data\.label_column"),
            ("text,label,text\na,b,c\n", r"2 columns are called 'text'; rename all but one"),
            ("text;label\na;b\n", r"my\.csv:1: the header 'text;label' is not separated by commas"),
            ("text,label\na,b\na,b,c\n", r"my\.csv:3: 3 fields where the header has 2; put a text with"),
            ('text,label\na,b\n"open,b\n', r"my\.csv:3: cannot be parsed from here on \(unexpected end of data\)"),
            ("text,label\n", r"my\.csv: has no rows"),
            ("", r"my\.csv: the file is empty"),
            (b"text,label\nfine,pos\ncaf\xe9,pos\n", r"my\.csv:3: byte 23 of the file \(0xe9\) is not UTF-8; convert "
             r".*iconv -f windows-1252 -t utf-8 my\.csv"),
            ("text,label\na,b\n".encode("utf-16"), r"my\.csv:1: byte 0 .*iconv -f utf-16"),
        ],
    )  # fmt: skip
    def test_faults(self, tmp_path: Path, body: str | bytes, message: str) -> None:
        with pytest.raises(DataError, match=message):
            CsvFormat.read_labelled_rows(write(tmp_path / "my.csv", body), data())

    def test_byte_offset_counts_the_bom(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"my\.csv:1: byte 3 of the file \(0xff\)"):
            CsvFormat.read_labelled_rows(write(tmp_path / "my.csv", b"\xef\xbb\xbf\xff"), data())


class TestJsonl:
    def test_values(self, tmp_path: Path) -> None:
        body = '{"text": "a\u2028b", "label": 1}\n\n{"label": true, "text": "c", "id": 3}\n'
        rows = JsonlFormat.read_labelled_rows(write(tmp_path / "my.jsonl", body), data())
        assert [(row.text, row.label, row.number) for row in rows] == [("a\u2028b", "1", 1), ("c", "true", 3)]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"text": "a", "label"}', r"my\.jsonl:2: not valid JSON at column \d+ \(Expecting"),
            ('{"text": "a", "label": ' + "9" * 5000 + "}", r"my\.jsonl:2: holds a number that cannot be read"),
            ("[1]", r"my\.jsonl:2: holds a list; each line must hold one object"),
            ("[" * 200_000, r"my\.jsonl:2: JSON nested too deeply"),
            ('{"txt": "a", "label": "b"}', r"my\.jsonl:2: no column 'text'; did you mean txt\?"),
            ('{"text": 3, "label": "b"}', r"my\.jsonl:2: 'text' holds a int, not text; .*data\.text_column"),
            ('{"text": "a", "label": ["b"]}', r"my\.jsonl:2: 'label' holds a list; a row has exactly one label"),
            (r'{"text": "\ud83d", "label": "b"}', r"my\.jsonl:2: 'text' holds half of a surrogate pair"),
        ],
    )
    def test_faults(self, tmp_path: Path, line: str, message: str) -> None:
        path = write(tmp_path / "my.jsonl", '{"text": "a", "label": "b"}\n' + line + "\n")
        with pytest.raises(DataError, match=message):
            JsonlFormat.read_labelled_rows(path, data())


class TestVader:
    def test_border(self, tmp_path: Path) -> None:
        path = write(tmp_path / "v.txt", "1\t0.5\ta\r\n2\t-0.5\tb\r\n3\t0.499\tc\td\r\n4\t-3\te")
        assert [(row.text, row.label) for row in read_vader(path)] == [
            ("a", "positive"),
            ("b", "negative"),
            ("c\td", "neutral"),
            ("e", "negative"),
        ]

    def test_fault(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"v\.txt:2: found '2 0\.5 a'; each line must read ID<TAB>MEAN<TAB>TEXT"):
            read_vader(write(tmp_path / "v.txt", "1\t0.5\ta\n2 0.5 a\n"))


class TestFolders:
    def test_formats_and_names(self, tmp_path: Path) -> None:
        write(tmp_path / "train.csv", "text,label\na,b\n")
        write(tmp_path / "dev.NDJSON", '{"text": "c", "label": "b"}\n')
        write(tmp_path / "Test.tsv", "text\tlabel\nd\tb\n")
        write(tmp_path / "notes.txt", "no data")
        splits = read_split_folder(tmp_path, data())
        assert {name: rows[0].text for name, rows in splits.items()} == {"train": "a", "validation": "c", "test": "d"}

    def test_shards_in_order(self, tmp_path: Path) -> None:
        for shard in (1, 0):
            write(tmp_path / f"train-0000{shard}-of-00002.csv", f"text,label\n{shard},b\n")
        assert [row.text for row in read_split_folder(tmp_path, data())["train"]] == ["0", "1"]

    def test_competing_files(self, tmp_path: Path) -> None:
        write(tmp_path / "train.csv", "text,label\na,b\n")
        write(tmp_path / "train.jsonl", '{"text": "c", "label": "b"}\n')
        with pytest.raises(DataError, match=r"train\.csv and train\.jsonl compete for one split; keep one, or choose"):
            read_split_folder(tmp_path, data())
        assert read_split_folder(tmp_path, data(format="jsonl"))["train"][0].text == "c"

    def test_no_train(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        write(tmp_path / "all.csv", "text,label\na,b\n")
        with pytest.raises(DataError, match=r"no training file; expected train\.csv .*; it holds all\.csv, data/$"):
            read_split_folder(tmp_path, data())
        with pytest.raises(DataError, match=r"no training file in format parquet;"):
            read_split_folder(tmp_path, data(format="parquet"))

    def test_file_formats(self, tmp_path: Path) -> None:
        path = write(tmp_path / "my.dat", "text,label\na,b\n")
        assert read_split_file(path, data(format="csv"))["train"][0].text == "a"
        with pytest.raises(DataError, match=re.escape("cannot tell how to read a .dat file; set data.format to csv")):
            read_split_file(path, data())
        with pytest.raises(DataError, match="a TweetEval source is a folder"):
            read_split_file(path, data(format="tweeteval"))
