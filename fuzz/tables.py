"""Tables: damaged CSV, TSV, JSONL and Parquet. Training and prediction read the same texts, and no row is lost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from fuzz.areas import Check, FuzzArea
from fuzz.odd_values import ODD_TEXTS, damaged, odd_text
from whinchat.data.formats.table_registry import find_table_format, open_table
from whinchat.recipe.data_config import DataConfig

_PIECES = (
    *(text.encode("utf-8", "surrogatepass") for text in ODD_TEXTS),
    b'""', b'"\n', b'{"text": ', b'"label": ', b"{}", b"[]", b"[" * 200, b"1" * 5000, b"\\ud800", b"\n\n",
    b"text,label\n", b"\xff\xfe",
    b"a" * 140_000,
)  # fmt: skip
_PLAIN = {
    ".csv": b'text,label\na good day,good\n"two\nlines, ""quoted""",bad\n',
    ".tsv": b"text\tlabel\na good day\tgood\nso so\tbad\n",
    ".jsonl": b'{"text": "a good day", "label": "good"}\n{"text": "\\u00e9", "label": "bad"}\n',
}


def _parquet(rows: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a good day"] * rows, "label": ["good"] * rows}), buffer, row_group_size=2)
    return buffer.getvalue()


_written = st.lists(st.tuples(odd_text, odd_text), min_size=1, max_size=5).map(
    lambda rows: "".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows]).encode(
        "utf-8", "surrogatepass"
    )
)
_whole = {
    **{suffix: st.just(content) for suffix, content in _PLAIN.items()},
    ".csv": st.one_of(st.just(_PLAIN[".csv"]), _written),
    ".parquet": st.sampled_from([_parquet(1), _parquet(5)]),
}


def _table(suffix: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """A table in the format of its suffix, whole or damaged; now and then one in another format."""
    own = _whole[suffix]
    return st.tuples(
        st.just(suffix), st.one_of(own, damaged(own, _PIECES), damaged(st.one_of(*_whole.values()), _PIECES))
    )


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    data = DataConfig.model_validate({"source": "table", "text_column": "text", "label_column": "label"})

    def check(case: tuple[str, bytes]) -> None:
        suffix, content = case
        path = folder / f"table{suffix}"
        path.write_bytes(content)
        table = open_table(path, "text")
        blocks = [table.read_block(location) for location in table.locate_blocks(2, lambda seen: None)]
        texts = [text for block in blocks for text, fault in zip(block.texts, block.faults, strict=True) if not fault]
        table_format = find_table_format(path)
        assert table_format is not None
        rows = table_format.read_labelled_rows(path, data)
        # Rows without a text are refused after reading, where their labels are looked up.
        read = [row.text for row in rows if row.text.strip()]
        assert read == texts, "training and prediction read other texts"

    yield check


TABLE_AREA = FuzzArea("tables", st.sampled_from(sorted(_whole)).flatmap(_table), _open, share=0.3)
