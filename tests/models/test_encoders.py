"""Encoders: what is found and loaded, what is refused, how tokens are pooled, which weights LoRA trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertTokenizer, RobertaConfig, RobertaModel

from tests.helpers.tiny_encoders import WORDS, save_words, tiny_bert, tiny_distilbert, write_pooling
from whinchat.data import packages
from whinchat.data.packages import catalog_entry
from whinchat.errors import DataError, ModelError
from whinchat.models.encoders import (
    attach_classifier_lora,
    find_encoder,
    load_encoder,
    load_text_classifier,
    open_encoder,
    pool,
    read_pooling,
)

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0}
# As the folder of bge-small-en-v1.5 has it.
CLS = {
    "word_embedding_dimension": 384,
    "pooling_mode_cls_token": True,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, "mean"),
        (CLS, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_pooling_is_that_of_the_models_own_settings(
    settings: dict[str, Any] | None, expected: str, tmp_path: Path
) -> None:
    folder = tiny_bert(tmp_path / "bert")
    if settings is not None:
        write_pooling(folder, settings, "Normalize")
    assert read_pooling(open_encoder(str(folder), None, 64)) == expected


@pytest.mark.parametrize(
    ("settings", "modules", "message"),
    [
        ({"pooling_mode": "lasttoken"}, (), "made with lasttoken, which the arena does not compute"),
        ({"pooling_mode": ["cls", "max"]}, (), "made with cls, max, which"),
        ({"pooling_mode": "mean"}, ("Dense",), "made with Dense, mean, which"),
        ({}, (), "made with no pooling, which"),
    ],
)
def test_other_embeddings_are_refused(
    settings: dict[str, Any], modules: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    folder = tiny_bert(tmp_path / "bert")
    write_pooling(folder, settings, *modules)
    with pytest.raises(ModelError, match=message):
        read_pooling(open_encoder(str(folder), None, 64))
    (folder / "modules.json").write_text('{"a": ', encoding="utf-8")
    with pytest.raises(ModelError, match=r"settings for sentence-transformers \(modules\.json\) cannot be read"):
        read_pooling(open_encoder(str(folder), None, 64))


def test_pooled_vectors_have_unit_length_and_leave_out_padding() -> None:
    hidden = torch.tensor([[[3.0, 4.0], [5.0, 0.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    np.testing.assert_allclose(pool(hidden, mask, "cls"), [[0.6, 0.8]], atol=1e-6)
    mean = np.array([4.0, 2.0])
    np.testing.assert_allclose(pool(hidden, mask, "mean")[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_are_cut_to_what_the_encoder_allows(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert", max_position_embeddings=20)
    encoder = open_encoder(str(folder), None, 256)
    assert encoder.max_length == 20
    assert [len(ids) for ids in encoder.token_ids(["rain " * 100, ""])] == [20, 2]
    assert open_encoder(str(folder), None, 8).max_length == 8
    assert encoder.token_ids([]) == []


def test_the_positions_that_roberta_leaves_unused_are_not_counted(tmp_path: Path) -> None:
    save_words(tmp_path)
    config = RobertaConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path)
    encoder = open_encoder(str(tmp_path), None, 256)
    (ids,) = encoder.token_ids(["rain " * 100])
    model = load_encoder(encoder)
    assert model(input_ids=torch.tensor([ids])).last_hidden_state.shape[1] == 18
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        model(input_ids=torch.tensor([[*ids, 3]]))


def test_what_is_no_encoder(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a llama model is no encoder such as BERT; name an encoder in encod"):
        open_encoder(str(tiny_llama), None, 64)
    with pytest.raises(ModelError, match=r"encoder\.model: nowhere is neither a folder nor OWNER/NAME on the hub; off"):
        find_encoder("nowhere", None)
    with pytest.raises(ModelError, match=r"package:vader-tweets holds no encoder; package:all-minilm-l6-v2 does"):
        find_encoder("package:vader-tweets", None)
    with pytest.raises(DataError, match=r"package:all-minilm-l6: not in the catalog; did you mean all-minilm-l6-v2\?"):
        find_encoder("package:all-minilm-l6", None)


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"bert: its tokenizer has no padding token, so texts cannot form batches"):
        open_encoder(str(folder), None, 64)


def test_an_encoder_inside_a_package_is_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_bert(tmp_path / "bert")
    monkeypatch.setattr("whinchat.models.backbone.fetch_package_file", lambda name: folder / "model.safetensors")
    source = find_encoder("package:all-minilm-l6-v2", None)
    entry = catalog_entry("all-minilm-l6-v2")
    assert (source.path, source.commit, source.license) == (str(folder), entry.sha256, "apache-2.0")
    assert packages.license_of_source("package:all-minilm-l6-v2") == "apache-2.0"


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    pooler = {name: weight for name, weight in weights.items() if "pooler" not in name}
    save_file(pooler, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = open_encoder(str(folder), None, 64)
    assert load_encoder(encoder).training is False, "a pooler is not needed for embeddings"
    _, new = load_text_classifier(encoder, 3, "cpu")
    assert new == ("bert.pooler.dense", "classifier")
    whole = {name: weight for name, weight in weights.items() if "layer.1.output.dense" not in name}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (load_encoder, lambda encoder: load_text_classifier(encoder, 3, "cpu")):
        with pytest.raises(ModelError, match=r"its files lack .*encoder\.layer\.1\.output\.dense\.bias.*; fetch"):
            load(encoder)


@pytest.mark.parametrize("labels", [3, 5])
def test_the_head_of_another_task_is_replaced(labels: int, tmp_path: Path) -> None:
    """Also where the other task has as many labels: they are not the same."""
    folder = tiny_bert(tmp_path / "bert")
    trained = BertForSequenceClassification.from_pretrained(folder, num_labels=labels)
    trained.half().save_pretrained(folder)
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model, new = load_text_classifier(open_encoder(str(folder), None, 64), 3, "cpu")
        assert (model.classifier.out_features, new) == (3, ("classifier",))
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        models.append(model)
    heads = [model.classifier.weight for model in models]
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])
    assert not any(weight.equal(trained.classifier.weight.float()) for weight in heads)
    for own, other in zip(models[0].bert.parameters(), trained.bert.parameters(), strict=True):
        assert own.equal(other.float())


def test_lora_trains_the_whole_head_and_every_linear_layer_of_the_encoder(tmp_path: Path) -> None:
    encoder = open_encoder(str(tiny_distilbert(tmp_path / "distilbert")), None, 64)
    model, new = load_text_classifier(encoder, 3, "cpu")
    assert new == ("classifier", "pre_classifier")
    tuned = attach_classifier_lora(model, new, LORA)
    trained = {name for name, weight in tuned.named_parameters() if weight.requires_grad}
    heads = {name for name in trained if "lora_" not in name}
    assert {name.split(".modules_to_save")[0].rpartition(".")[2] for name in heads} == {"pre_classifier", "classifier"}
    # Query, key, value, output and two layers of the feed-forward network, in both layers, two factors each.
    assert len(trained - heads) == 2 * 6 * 2


def test_a_new_pooler_is_trained_with_lora(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    tuned = attach_classifier_lora(*load_text_classifier(open_encoder(str(folder), None, 64), 3, "cpu"), LORA)
    trained = [name for name, weight in tuned.named_parameters() if weight.requires_grad and "lora_" not in name]
    assert any("pooler.dense" in name for name in trained)
    assert not any("pooler" in name for name, _ in tuned.named_parameters() if "lora_" in name)
