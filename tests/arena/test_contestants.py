"""Every kind of contestant through one cell, end to end, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tests.arena.conftest import MakeSpec, jobs_of
from tests.helpers import tiny_models
from whinchat.arena.contestants import make_contestant, minilm
from whinchat.arena.trial_process import run_trial
from whinchat.arena.trials import TrialRecord, TrialResult
from whinchat.data.packages import cache_folder, catalog_entry
from whinchat.errors import DataError

TRAINED = ("head-lora", "lora", "dora", "rslora", "pissa", "qlora", "qdora", "full")


def run_one(path: Path) -> TrialResult:
    _, jobs = jobs_of(path)
    record = run_trial(next(iter(jobs.values())))
    assert TrialRecord.from_dict(record.to_dict()) == record
    assert record.found is not None
    found = record.found
    assert len(found.expected) == len(found.predicted) == found.measured.n == 24
    accuracy = np.mean(np.array(found.expected) == np.array(found.predicted))
    assert found.measured.accuracy == pytest.approx(accuracy)
    assert found.cost.peak_memory_bytes > 1e7
    assert found.cost.answer_seconds > 0
    return found


def test_majority(spec_file: MakeSpec) -> None:
    found = run_one(spec_file(methods=["majority"]))
    assert len(set(found.predicted)) == 1
    assert found.cost.trainable_parameters == 3


def test_tfidf_learns_the_toy_task(spec_file: MakeSpec) -> None:
    found = run_one(spec_file(methods=["tfidf"], rows=[60]))
    assert found.measured.macro_f1 > 0.9
    assert "by 5-fold cross-validation" in found.notes["regression"]
    assert found.measured.calibration is not None
    assert found.measured.calibration.label_mass == pytest.approx(1)


def test_a_label_without_rows_is_never_answered(spec_file: MakeSpec) -> None:
    _, jobs = jobs_of(spec_file(methods=["tfidf"]))
    job = next(iter(jobs.values()))
    one = make_contestant(job.method, job.recipe)
    texts, labels = tiny_models.toy_rows(60)
    kept = [at for at, label in enumerate(labels) if label != 1]
    from whinchat.data.dataset import Split

    train = Split("train", texts, labels)
    one.fit(train.take(kept))
    scores = one.answer(texts)
    assert scores.shape == (60, 3)
    assert 1 not in scores.argmax(axis=1)
    with pytest.raises(DataError, match="all 2 training rows are fine, so there is nothing to tell apart; raise rows"):
        one.fit(Split("train", ("a", "b"), (1, 1)))
    one.fit(Split("train", ("a", "b", "c"), (0, 0, 1)))
    assert one.notes["regression"] == "C = 1, too few rows of a label to choose"


def test_zero_shot(spec_file: MakeSpec) -> None:
    found = run_one(spec_file(methods=["zero-shot"]))
    assert (found.rows_used, found.cost.trainable_parameters) == (0, 0)


def test_few_shot(spec_file: MakeSpec) -> None:
    found = run_one(spec_file(methods=[{"name": "few-shot", "shots": 2}]))
    assert (found.rows_used, found.cost.trainable_parameters) == (6, 0)


@pytest.mark.parametrize("method", TRAINED)
def test_whatever_trains(spec_file: MakeSpec, method: str) -> None:
    found = run_one(spec_file(methods=[method]))
    assert found.rows_used == 20
    assert found.notes["steps"] == "2"
    share = found.cost.trainable_parameters / found.cost.parameters
    assert share == 1 if method == "full" else 0 < share < 0.3


@pytest.mark.parametrize("method", ["head-lora", "full"])
def test_heads_and_full_fine_tuning_learn(spec_file: MakeSpec, method: str) -> None:
    steps = [
        "train.max_steps=60",
        "train.per_device_train_batch_size=16",
        "train.learning_rate=2e-2" if method == "head-lora" else "train.learning_rate=5e-3",
    ]
    found = run_one(spec_file(methods=[{"name": method, "set": steps}], rows=[90]))
    assert found.measured.macro_f1 > 0.5, "a guess reaches a third"


def test_the_same_seed_gives_the_same_head(spec_file: MakeSpec) -> None:
    path = spec_file(methods=["head-lora"])
    assert run_one(path).measured.calibration == run_one(path).measured.calibration


def tiny_bert(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "tea", "sun", "the", "day", "at", "station", "is"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_minilm_on_a_tiny_encoder(spec_file: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_bert(tmp_path / "bert")
    monkeypatch.setattr(minilm, "fetch_package_file", lambda name: folder / "model.safetensors")
    found = run_one(spec_file(methods=["minilm"], rows=[80]))
    assert found.measured.macro_f1 > 0.6
    assert found.cost.trainable_parameters == 3 * 32 + 3


def test_embeddings_are_means_of_unit_length_whatever_the_batch(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    tokenizer, encoder = BertTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    texts = ["rain at the station", "tea", "the day is the day at the station", ""]
    together = minilm.embed(encoder, tokenizer, texts)
    for text, embedded in zip(texts, together, strict=True):
        with torch.inference_mode():
            hidden = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        np.testing.assert_allclose(embedded, (mean / mean.norm()).numpy(), atol=1e-5)
    assert minilm.embed(encoder, tokenizer, []).shape == (0, 32)


def test_minilm_itself(spec_file: MakeSpec) -> None:
    entry = catalog_entry(minilm.PACKAGE)
    kept: Any = cache_folder() / "packages" / f"{entry.name}-{entry.sha256[:12]}" / entry.filename
    if not kept.is_file():
        pytest.skip(f"{entry.requirement} is not in the cache; `whinchat arena vader-curve` fetches it")
    one = run_one(spec_file(methods=["minilm"], rows=[80]))
    assert one.measured.macro_f1 > 0.8
    assert one.cost.parameters > 22_000_000
