"""A stranger's tokenizer or chat template ends in bounded time and memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_models
from whinchat.errors import ModelError, PromptError
from whinchat.models.tokenizer_loading import read_tokenizer
from whinchat.prompts import trial
from whinchat.prompts.template import PromptTemplate

GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
BACKTRACKING = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.fixture(autouse=True)
def _short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 1)
    monkeypatch.setattr(trial, "_passed", set())


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "seconds of processor time"),
        ("{{ 'a' * 10**12 }}", "MB of memory"),
        ("{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}", "nested too deeply"),
        (f"{{{{ {'(' * 30_000}1{')' * 30_000} }}}}", "nested too deeply"),
        ("{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "9,000,000 characters"),
    ],
    ids=["loops", "product", "recursion", "source", "length"],
)
def test_a_chat_template_without_bounds_is_not_used(source: str, fault: str) -> None:
    tokenizer: Any = tiny_models.bpe_tokenizer(("<s>", "</s>"), bos="<s>", eos="</s>", template=source)
    with pytest.raises(PromptError, match=f"m: its chat template is not used: .*{fault}.*; choose another copy"):
        PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=200, model="m")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [GROWING] * 5}}, "memory|processor time"),
        ({"pre_tokenizer": BACKTRACKING}, "retry-limit-in-match"),
    ],
    ids=["growth", "backtracking"],
)
def test_a_tokenizer_without_bounds_is_not_used(
    tiny_mistral: Path, tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    shutil.copytree(tiny_mistral, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"its tokenizer cannot be loaded: tokenizer.json is not used: .*({fault})"):
        read_tokenizer(str(file.parent), "main", "m")


def test_settings_of_a_tokenizer_have_a_largest_size(tiny_mistral: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_mistral, tmp_path / "model")
    (tmp_path / "model" / "added_tokens.json").write_bytes(b" " * (17 * 2**20))
    with pytest.raises(ModelError, match=r"added_tokens\.json has 17 MiB, and no such file needs more than 16"):
        read_tokenizer(str(tmp_path / "model"), "main", "m")
