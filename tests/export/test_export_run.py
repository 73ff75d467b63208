"""Exports answer like the classifier; an export that does not is removed."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.helpers import finished_runs, tiny_models
from tests.helpers.exports import TEXTS, texts_file
from whinchat.errors import DataError, ModelError, OutputError, RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.export import export_run as exporting
from whinchat.export import gguf_writer, merged, sequence_classifier
from whinchat.export.export_run import export_run
from whinchat.export.merged import merge
from whinchat.inference.predictor import Predictor
from whinchat.output_files import replace_file
from whinchat.pipelines.run import run
from whinchat.storage.locate import find_classifier
from whinchat.storage.locking import lock_output


def of_method(model: Path, folder: Path, **sections: Any) -> Path:
    source = finished_runs.write_csv(folder / "data.csv")
    run(finished_runs.recipe_for(model, source, **sections), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    "sections",
    [
        {"adapter": {"method": "dora"}},
        {"adapter": {"method": "rslora", "init": "pissa"}},
        {"backbone": {"load_in": "bfloat16"}},
    ],
    ids=["dora", "pissa", "bfloat16"],
)
def test_merged_is_the_same_model(tiny_llama: Path, tmp_path: Path, sections: dict[str, Any]) -> None:
    trained = of_method(tiny_llama, tmp_path, **sections)
    proof = export_run(trained, "merged", tmp_path / "out", data=texts_file(tmp_path), tolerance=0.1)
    exact = "backbone" not in sections
    assert proof.texts == 20
    assert proof.largest_difference < (1e-4 if exact else 0.1)
    assert json.loads((tmp_path / "out" / "proof.json").read_text(encoding="utf-8"))["flipped"] == proof.flipped
    # Plain transformers loads it, and every use of whinchat takes it.
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert stored.dtype == (torch.float32 if exact else torch.bfloat16)
    original, merged_predictor = Predictor.load(trained), Predictor.load(tmp_path / "out")
    np.testing.assert_allclose(original.score(TEXTS), merged_predictor.score(TEXTS), atol=1e-3 if exact else 0.2)
    assert original.calibrator == merged_predictor.calibrator


def test_an_nf4_adapter_is_added_to_full_weights(tiny_llama: Path, tmp_path: Path) -> None:
    trained = of_method(tiny_llama, tmp_path, backbone={"load_in": "nf4", "compute_dtype": "float32"})
    model, _ = merge(find_classifier(trained))
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    name = "model.layers.0.self_attn.q_proj.weight"
    from safetensors.torch import load_file

    weights = load_file(trained / "adapter" / "adapter_model.safetensors")
    a, b = (weights[f"base_model.model.{name.removesuffix('.weight')}.lora_{factor}.weight"] for factor in "AB")
    torch.testing.assert_close(model.state_dict()[name], base.state_dict()[name] + 2 * b @ a)


def test_a_pipeline_needs_nothing_of_whinchat(trained: Path, tmp_path: Path) -> None:
    proof = export_run(trained, "classifier", tmp_path / "out", data=texts_file(tmp_path, TEXTS * 4))
    assert (proof.flipped, proof.texts) == (0, 80)
    predictor = Predictor.load(trained)
    predictions = predictor.predict(TEXTS)
    rows = pipeline("text-classification", str(tmp_path / "out"))(TEXTS, batch_size=8)
    assert [row["label"] for row in rows] == predictions.label_names
    # Labels are a softmax over the head: what any server of such models computes.
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert tuple(model.config.id2label.values()) == tiny_models.ONE_TOKEN
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = predictor.engine.template.encode(TEXTS[:1])[0]
    assert tuple(tokenizer(TEXTS[0])["input_ids"]) == prompt.ids


def test_the_decision_goes_into_a_head_without_bias(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibration shifts the labels so strongly that plain scores would give other labels."""
    calibrated = Predictor.load(trained)
    plain = replace(calibrated, calibrator=Calibrator(tiny_models.ONE_TOKEN, temperature=0.6))
    monkeypatch.setattr(exporting.Predictor, "load", classmethod(lambda cls, path, student: plain))
    proof = export_run(trained, "classifier", tmp_path / "plain", data=texts_file(tmp_path))
    assert proof.largest_difference < 1e-4, "a temperature is exact"
    shifted = replace(plain.calibrator, temperature=1.7, rows=1, bias=(2.0, 0.0, -1.0), tau=1.0, prior=(0.2, 0.7, 0.1))
    biased = replace(plain, calibrator=shifted)
    monkeypatch.setattr(exporting.Predictor, "load", classmethod(lambda cls, path, student: biased))
    scores = biased.score(TEXTS)
    ours, plain_labels = (one.calibrator.probabilities(scores).argmax(axis=1) for one in (biased, plain))
    assert (ours != plain_labels).any()
    proof = export_run(trained, "classifier", tmp_path / "out", data=texts_file(tmp_path, TEXTS * 3), tolerance=0.05)
    assert proof.largest_difference < 0.05


def test_the_tokenizer_makes_the_prompt(trained: Path, tmp_path: Path) -> None:
    export_run(trained, "classifier", tmp_path / "out", data=texts_file(tmp_path), tolerance=0.1)
    template = Predictor.load(trained).engine.template
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token_id != template.encode(["a"])[0].ids[-1]
    long = "rain " * 2000
    ids = tokenizer(long, truncation=True)["input_ids"]
    assert len(ids) == template.max_prompt_tokens
    assert ids[-3:] == list(template.encode(["a"])[0].ids[-3:])
    # A text cannot end its own turn.
    end = template.tokenizer.convert_ids_to_tokens(template.end_of_turn)
    frame = tokenizer("")["input_ids"]
    assert tokenizer(end)["input_ids"].count(template.end_of_turn) == frame.count(template.end_of_turn)


def test_long_answers_have_no_head(tiny_llama: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "data.csv", labels=tiny_models.NESTED)
    run(finished_runs.recipe_for(tiny_llama, source, task={"labels": tiny_models.NESTED}), tmp_path / "run")
    with pytest.raises(ModelError, match="takes several tokens, and a classification head reads one; export merged"):
        export_run(tmp_path / "run", "classifier", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_does_not_answer_alike_does_not_stay(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(saved: Any) -> Any:
        model, backbone = merge(saved)
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(-1)
        return model, backbone

    monkeypatch.setattr(merged, "merge", spoilt)
    with pytest.raises(
        ModelError, match=r"differ from the classifier's own in model\.safetensors, more than the tolerance of 2\.0%"
    ):
        export_run(trained, "merged", tmp_path / "out", data=texts_file(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.jsonl"]


def test_what_cannot_be_exported_is_found_before_the_model_is_loaded(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.Predictor, "load", lambda path: pytest.fail("a model was loaded"))
    texts = texts_file(tmp_path)
    long = tmp_path / ("x" * 300)
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\)"):
        export_run(trained, "merged", long, data=texts)
    with pytest.raises(OutputError, match=r"jsonl/out: cannot be written \(Not a directory\)"):
        export_run(trained, "merged", texts / "out", data=texts)
    (tmp_path / "none.jsonl").write_text('{"text": null}\n', encoding="utf-8")
    with pytest.raises(DataError, match="holds no texts for the proof"):
        export_run(trained, "merged", tmp_path / "out", data=tmp_path / "none.jsonl")
    with (
        lock_output(tmp_path / "out"),
        pytest.raises(RunError, match="out: another process is writing here"),
    ):
        export_run(trained, "merged", tmp_path / "out", data=texts)
    monkeypatch.setattr(gguf_writer, "_ARCHITECTURES", ("gpt2",))
    with pytest.raises(ModelError, match="gguf: supports gpt2, not llama"):
        export_run(trained, "gguf", tmp_path / "out", data=texts)


def test_a_full_disk_names_the_folder_that_was_asked_for(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".out.unproved").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(exporting, "write_json_record", lambda path, _: replace_file(path, full))
    with pytest.raises(OutputError, match=rf"{tmp_path}/out/proof\.json: cannot be written \(No space left"):
        export_run(trained, "merged", tmp_path / "out", data=texts_file(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_probabilities_that_are_not_finite_prove_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Predictor.load(trained).predict(TEXTS[:20]).label_names
    wrong = np.full((20, 3), np.nan)
    monkeypatch.setattr(sequence_classifier, "pipeline_predictions", lambda folder, texts: (names, wrong))
    with pytest.raises(ModelError, match=r"model\.safetensors: transformers .* reads probabilities that are not fin"):
        export_run(trained, "classifier", tmp_path / "out", data=texts_file(tmp_path))


def test_where_and_on_what(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="tolerance: must lie from 0 to 1; found nan"):
        export_run(trained, "merged", tmp_path / "out", tolerance=float("nan"))
    with pytest.raises(RunError, match="exists already"):
        export_run(trained, "merged", tmp_path, data=texts_file(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        export_run(trained, "merged", tmp_path / "out", data=tmp_path / "none.csv")
    assert export_run(trained, "merged", tmp_path / "out").texts == 12, "half of its 24 validation rows"
