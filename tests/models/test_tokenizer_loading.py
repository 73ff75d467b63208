"""A loaded tokenizer has the token ids of its tokenizer.json, in training, when saved, and when loaded again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.helpers import hub_server, tiny_models
from whinchat.errors import ModelError
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.models.tokenizer_loading import read_tokenizer
from whinchat.recipe.model_config import BackboneConfig

PROBES = (
    "plain",
    " one blank",
    "two  blanks ",
    "new\nline\n",
    "12345 and 3.14",
    "日本語 é 😀",
    "after</s>text</s>\n<|assistant|>\n",
    "</s> blank after",
    "<|im_start|>user\nhello 7<|im_end|>\n",
    "▁piece",
    "",
)


def read(folder: Path) -> Any:
    return read_tokenizer(str(folder), "main", folder.name)


def ids(tokenizer: Any) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(PROBES))["input_ids"]
    return found


def copied(model: Path, folder: Path, **settings: Any) -> Path:
    """A copy of the model's tokenizer and config.json; ``settings`` replace those of tokenizer_config.json."""
    folder.mkdir()
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(model / file, folder)
    content = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8")) | settings
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_ids_are_those_of_the_file(any_model: Path, tmp_path: Path) -> None:
    wanted = [each.ids for each in Tokenizer.from_file(str(any_model / "tokenizer.json")).encode_batch(list(PROBES))]
    tokenizer = read(any_model)
    assert ids(tokenizer) == wanted
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    assert ids(read(saved)) == wanted
    # Whoever uses the saved tokenizer with transformers alone gets the same ids, with a model beside it or not.
    assert ids(AutoTokenizer.from_pretrained(saved)) == wanted
    shutil.copy(any_model / "config.json", saved)
    assert ids(AutoTokenizer.from_pretrained(saved)) == wanted


def test_transformers_alone_would_give_other_ids(tiny_llama: Path) -> None:
    """Keeps the test above honest."""
    assert ids(AutoTokenizer.from_pretrained(tiny_llama)) != ids(read(tiny_llama))


def test_truncation_and_padding_of_the_file_change_no_ids(tiny_llama: Path, tmp_path: Path) -> None:
    """Some published files were saved with the settings of a training script."""
    folder = copied(tiny_llama, tmp_path / "cutting")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert ids(read(folder)) == ids(read(tiny_llama))


def test_special_tokens_that_the_settings_do_not_name_are_those_of_the_class(tiny_llama: Path, tmp_path: Path) -> None:
    unnamed = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token", "add_bos_token", "add_eos_token"))
    tokenizer = read(copied(tiny_llama, tmp_path / "unnamed", **unnamed))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")
    assert ids(tokenizer) == ids(read(tiny_llama))


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.model": "sentencepiece"},
        {"tekken.json": "{}"},
        {"vocab.json": "{}", "merges.txt": ""},
        {"qwen.tiktoken": ""},
        {},
    ],
    ids=lambda files: "+".join(files) or "nothing",
)
def test_other_files_alone_are_refused_in_one_sentence(tiny_llama: Path, tmp_path: Path, files: dict[str, str]) -> None:
    folder = copied(tiny_llama, tmp_path / "other")
    (folder / "tokenizer.json").unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"other: has no tokenizer\.json; ids made from other files") as caught:
        tiny_models.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": {"type": "BPE"}}'])
def test_a_damaged_file_is_one_line(tiny_llama: Path, tmp_path: Path, content: str) -> None:
    folder = copied(tiny_llama, tmp_path / "damaged")
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="damaged: its tokenizer cannot be loaded: ") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_code_of_the_repository_is_not_run(tiny_llama: Path, tmp_path: Path) -> None:
    remote = {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    folder = copied(tiny_llama, tmp_path / "remote", **remote)
    (folder / "code.py").write_text("raise SystemExit('code was run')", encoding="utf-8")
    assert ids(read(folder)) == ids(read(tiny_llama))


def test_a_trained_classifier_keeps_the_ids_of_its_training(tiny_llama: Path, tmp_path: Path) -> None:
    trained = tmp_path / "adapter"
    # As an adapter trained on the ids that transformers' own class gives.
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(trained)
    source = find_model(BackboneConfig(model=str(tiny_llama)))
    kept = load_tokenizer(source, trained)
    assert ids(kept.tokenizer) == ids(AutoTokenizer.from_pretrained(tiny_llama)) != ids(read(tiny_llama))
    assert kept.end_ids == load_tokenizer(source).end_ids
    (trained / "tokenizer.json").unlink()
    assert ids(load_tokenizer(source, trained).tokenizer) == ids(read(tiny_llama))


def test_a_hub_model(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in tiny_llama.iterdir() if path.is_file()}
    with hub_server.serve() as hub:
        hub_server.in_this_process(hub, tmp_path, monkeypatch)
        for name in ("whole", "lacking"):
            hub.repositories[f"ann/{name}"] = hub_server.Repository()
            hub.repositories[f"ann/{name}"].add(files)
            files.pop("tokenizer.json", None)
        assert ids(load_tokenizer(find_model(BackboneConfig(model="ann/whole"))).tokenizer) == ids(read(tiny_llama))
        with pytest.raises(ModelError, match=r"ann/lacking: has no tokenizer\.json"):
            load_tokenizer(find_model(BackboneConfig(model="ann/lacking")))
