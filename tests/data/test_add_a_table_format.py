"""A format registered from outside, by the example in its how-to page, reaches training, prediction and the server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException

from tests.helpers import finished_runs, tiny_models
from whinchat.data.formats import table_registry
from whinchat.data.formats.delimited import CsvFormat
from whinchat.data.formats.table_registry import find_table_format, register_table_format, table_suffixes
from whinchat.data.sources import load_corpus, read_source
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError
from whinchat.inference.predict_file import predict_file
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.recipe.data_config import DataConfig
from whinchat.server.api_schema import Limits
from whinchat.server.uploads import TableRequest, label_upload, store_upload

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-table-format.md"
TABLE = 'text|label\n"red | blue"|red\ngreen, green|green\nblue|blue\n'


@pytest.fixture(autouse=True)
def psv(monkeypatch: pytest.MonkeyPatch) -> type[CsvFormat]:
    monkeypatch.setattr(table_registry, "_FORMATS", dict(table_registry._FORMATS))
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    names: dict[str, Any] = {}
    exec(example[1], names)  # the page's own code
    return names["PsvFormat"]


def test_training(tmp_path: Path) -> None:
    for name in ("train.psv", "dev.PSV"):
        (tmp_path / name).write_text(TABLE, encoding="utf-8")
    splits = read_source(DataConfig(source=str(tmp_path))).splits
    assert {name: [row.text for row in rows] for name, rows in splits.items()} == {
        "train": ["red | blue", "green, green", "blue"],
        "validation": ["red | blue", "green, green", "blue"],
    }
    (tmp_path / "train.psv").write_text("text,label\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.psv:1: the header 'text,label' is not separated by vertical bars"):
        read_source(DataConfig(source=str(tmp_path / "train.psv")))
    with pytest.raises(DataError, match=r"a \.csv, .*\.parquet or \.psv file"):
        read_source(DataConfig(source="nowhere"))


def test_a_run_and_predict_file(tiny_llama: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=60)
    source = source.rename(tmp_path / "texts.psv")
    source.write_text(source.read_text(encoding="utf-8").replace(",", "|"), encoding="utf-8")
    assert len(load_corpus(finished_runs.recipe_for(tiny_llama, source)).train) == 36
    trained = finished_runs.finished_run(tiny_llama)
    table = tmp_path / "in.psv"
    table.write_text('id|text\n1|"red | blue"\n2\n', encoding="utf-8")
    (counts,) = predict_file(trained, table, tmp_path / "out.psv").values()
    assert (counts.rows, counts.bad) == (2, 1)
    header, first, second = (tmp_path / "out.psv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("id|text|label|unsure|p_")
    assert first.startswith(f'1|"red | blue"|{Predictor.load(trained).predict(["red | blue"]).label_names[0]}|')
    assert second.endswith("|1 fields, the header has 2")


def test_an_upload(tmp_path: Path) -> None:
    async def send(name: str) -> list[dict[str, Any]]:
        async def body() -> AsyncIterator[bytes]:
            yield b"text\nred\nblue\n"

        async def answer(texts: list[str]) -> Predictions:
            return Predictions(("a", "b"), np.full((2, 2), 0.5), np.zeros(2, bool))

        request = TableRequest(name, TextColumns(("text",)), "", tiny_models.tiny_task(("a", "b")))
        with ExitStack() as cleanup:
            upload = await store_upload(body(), request, Limits(), tmp_path, cleanup)
            return [json.loads(event) async for event in label_upload(upload, lambda text: "", answer)]

    events = asyncio.run(send("t.PSV"))
    assert [event["table"] for event in events] == [
        "text|label|unsure|p_a|p_b|error\n",
        "red|a|false|0.5|0.5|\nblue|a|false|0.5|0.5|\n",
    ]
    with pytest.raises(HTTPException, match=r"send \.csv, \.tsv, \.jsonl, \.ndjson, \.psv"):
        asyncio.run(send("t.txt"))


def test_registering(psv: type[CsvFormat]) -> None:
    assert table_suffixes()[-1] == ".psv"
    assert find_table_format(Path("a.Psv")) is psv
    assert find_table_format(Path("a.dat"), "psv") is psv
    assert register_table_format(psv) is psv, "the same format twice"
    for suffix, message in ((".csv", r"\.csv belongs to CsvFormat"), (".PSV", "lower-case"), ("psv", "must be")):
        format_ = type("OtherFormat", (CsvFormat,), {"suffixes": (suffix,)})
        with pytest.raises(ValueError, match=message):
            register_table_format(format_)
