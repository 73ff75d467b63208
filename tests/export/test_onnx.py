"""An ONNX graph answers like the classifier, with only onnxruntime and a tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy.special import softmax
from transformers import AutoConfig, AutoTokenizer

from tests.helpers import tiny_models
from tests.helpers.exports import TEXTS, predictor_of, texts_file
from whinchat.errors import ModelError
from whinchat.export import export_registry, onnx
from whinchat.export.export_run import export_run
from whinchat.export.exporter import ClassifierOutline
from whinchat.inference.predictor import Predictor


def test_onnxruntime_needs_nothing_of_whinchat(trained: Path, tmp_path: Path) -> None:
    proof = export_run(trained, "onnx", tmp_path / "out", data=texts_file(tmp_path, TEXTS * 2))
    assert (proof.flipped, proof.texts, proof.files[0].file) == (0, 40, "model.onnx")
    assert proof.largest_difference < 0.02
    names = ["config.json", "model.onnx", "proof.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [(tensor.name, tensor.shape) for tensor in session.get_inputs()] == [
        ("input_ids", ["batch", "sequence"]),
        ("attention_mask", ["batch", "sequence"]),
    ]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    labels = AutoConfig.from_pretrained(tmp_path / "out").id2label
    predictor = Predictor.load(trained)
    predictions = predictor.predict(TEXTS)
    # One text, one short text, a batch with padding: nothing of the example's size is left in the graph.
    for batch in (TEXTS[:1], ["a"], [*TEXTS, "long " * 90]):
        inputs = tokenizer(batch, padding=True, return_tensors="np")
        (logits,) = session.run(["logits"], {name: inputs[name] for name in ("input_ids", "attention_mask")})
        assert logits.shape == (len(batch), len(tiny_models.ONE_TOKEN))
    best_labels = softmax(logits[:-1].astype(np.float64), axis=1).argmax(axis=1)
    assert [labels[index] for index in best_labels] == predictions.label_names


def test_what_is_missing_is_named(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_registry, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ModelError, match=r"onnx: needs onnxruntime; pip install 'whinchat\[export\]'"):
        export_run(trained, "onnx", tmp_path / "out", data=texts_file(tmp_path))
    assert not (tmp_path / "out").exists()


def test_long_answers_have_no_head(tiny_llama: Path) -> None:
    predictor = predictor_of(tiny_llama, tiny_models.NESTED)
    outline = ClassifierOutline(predictor.recipe, predictor.engine.model.config, predictor.engine.template)
    with pytest.raises(ModelError, match="takes several tokens, and a classification head reads one; export merged"):
        onnx.EXPORTER.check(outline)
