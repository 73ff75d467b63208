"""A run from recipe to model card: its files exist and agree with one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score, recall_score
from transformers import AutoModelForCausalLM

from tests.helpers import finished_runs, tiny_models
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, OutputError, RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.evaluate import evaluate
from whinchat.evaluation.reliability import ScoredSplit, fit_with_threshold
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predictor import load_engine
from whinchat.models.forward import Engine
from whinchat.pipelines.run import run, train_run
from whinchat.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def folder(tiny_llama: Path) -> Path:
    return finished_runs.finished_run(tiny_llama)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def columns(folder: Path) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = pq.read_table(folder / "predictions.parquet").to_pydict()
    return table


def scores_of(engine: Engine, texts: list[str]) -> Any:
    return score_prompts(engine, engine.template.encode(texts), 8)


def stored_scores(table: dict[str, list[Any]], when: str) -> Any:
    return np.array([table[f"{when}_log_prob_{label}"] for label in tiny_models.ONE_TOKEN]).T


def test_the_run_folder_holds_exactly_its_documented_files(folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    documented = {
        "recipe.yaml", "manifest.json", "before.json", "after.json", "predictions.parquet", "adapter", "figures",
        "samples.json", "samples.md", "README.md", "report.html", "paired.json", "history.json", "trust.json",
        "baselines.json", "learned_texts.hashes",
    }  # fmt: skip
    assert files == documented
    assert all(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {
        "confusion_calibrated", "confusion_score", "confusion_generate", "training_curve", "reliability", "coverage",
    }  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("mode", ["score", "generate"])
def test_metrics_can_be_recomputed_from_the_predictions(folder: Path, when: str, mode: str) -> None:
    measured, table = read(folder / f"{when}.json")[mode], columns(folder)
    assert {"macro_f1", "macro_recall", "accuracy", "confusion", "labels", "invalid_rate", "n"} <= measured.keys()
    assert measured["labels"] == list(tiny_models.ONE_TOKEN)
    assert measured["n"] == 24 == len(table["row"])
    expected = table["label"]
    answered = [label or "none" for label in table[f"{when}_label" if mode == "score" else f"{when}_generated_label"]]
    invalid = answered.count("none")
    assert measured["invalid_rate"] == pytest.approx(invalid / 24)
    assert sum(map(sum, measured["confusion"])) == 24 - invalid
    assert sum(measured["invalid"]) == invalid
    settings: dict[str, Any] = {"labels": list(tiny_models.ONE_TOKEN), "average": "macro", "zero_division": 0}
    assert measured["macro_f1"] == pytest.approx(f1_score(expected, answered, **settings))
    assert measured["macro_recall"] == pytest.approx(recall_score(expected, answered, **settings))
    assert measured["accuracy"] == pytest.approx(accuracy_score(expected, answered))
    counted = [
        [
            sum(e == true and a == label for e, a in zip(expected, answered, strict=True))
            for label in tiny_models.ONE_TOKEN
        ]
        for true in tiny_models.ONE_TOKEN
    ]
    assert measured["confusion"] == counted


def test_the_file_holds_the_answers_that_the_report_measures(folder: Path) -> None:
    labels, table, measured = tiny_models.ONE_TOKEN, columns(folder), read(folder / "trust.json")["decided"]
    counted = [
        [
            sum(pair == (true, said) for pair in zip(table["label"], table["answer_label"], strict=True))
            for said in labels
        ]
        for true in labels
    ]
    assert measured["confusion"] == counted
    shown = np.array([table[f"answer_prob_{label}"] for label in labels]).T
    assert [labels[best] for best in shown.argmax(axis=1)] == table["answer_label"]
    right = [true == said for true, said in zip(table["label"], table["answer_label"], strict=True)]
    truth = np.array([[true == label for label in labels] for true in table["label"]])
    assert measured["accuracy"] == pytest.approx(np.mean(right))
    assert measured["calibration"]["brier"] == pytest.approx(((shown - truth) ** 2).sum(axis=1).mean())
    tests = {test["mode"]: test for test in read(folder / "paired.json")}
    assert tests["decide"]["macro_f1_gain"] == pytest.approx(
        measured["macro_f1"] - read(folder / "before.json")["score"]["macro_f1"]
    )
    methods = {method["name"]: method for method in read(folder / "baselines.json")}
    assert methods["tfidf"]["metrics"]["n"] == methods["majority"]["metrics"]["n"] == 24


def test_the_saved_calibrator_is_fitted_on_the_validation_rows(folder: Path) -> None:
    trust, table = read(folder / "trust.json"), columns(folder)
    recipe, engine = load_engine(folder)
    validation = load_corpus(recipe).validation
    assert validation is not None
    fitted = fit_with_threshold(
        ScoredSplit(validation, stored_scores(table, "after")), tiny_models.ONE_TOKEN, recipe.evaluate
    )
    assert Calibrator.load(folder / "adapter", recipe.task.labels) == fitted
    assert (trust["temperature"], trust["tau"]) == (fitted.temperature, fitted.tau)
    # The calibrator is fitted and evaluated on the same rows.
    assert trust["cross_fitted"]
    assert trust["decided"]["n"] == trust["fitted_rows"] == 24
    assert {stress_test["name"] for stress_test in trust["stress"]} >= {"one typo", "a full stop at the end"}
    assert engine.template.task.labels == fitted.labels


def test_the_columns_of_the_predictions_agree(folder: Path) -> None:
    table = columns(folder)
    assert table["row"] == list(range(24))
    for when in ("before", "after"):
        log_probs = stored_scores(table, when)
        assert [tiny_models.ONE_TOKEN[best] for best in log_probs.argmax(axis=1)] == table[f"{when}_label"]
        shares = np.array([table[f"{when}_prob_{label}"] for label in tiny_models.ONE_TOKEN]).T
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert (log_probs < 0).all()
        assert all(isinstance(answer, str) for answer in table[f"{when}_generated"])
    assert not np.allclose(stored_scores(table, "before"), stored_scores(table, "after"))


def test_the_card_shows_the_metrics_of_after_json(folder: Path) -> None:
    after, card = read(folder / "after.json"), ModelCard.load(folder / "README.md")
    assert card.data.eval_results
    for mode, words in (("score", "label scoring"), ("generate", "free generation")):
        metrics = {
            result.metric_type: result.metric_value
            for result in card.data.eval_results
            if words in result.metric_name and "invalid" not in result.metric_name
        }
        assert metrics["f1"] == pytest.approx(after[mode]["macro_f1"])
        assert metrics["recall"] == pytest.approx(after[mode]["macro_recall"])
        assert metrics["accuracy"] == pytest.approx(after[mode]["accuracy"])
    assert f"{after['score']['macro_f1']:.3f}" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_is_self_contained(folder: Path) -> None:
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert 'src="http' not in report
    assert 'href="http' not in report.split("<body")[0]
    assert "data:image/" in report


def test_the_manifest_records_the_sources_of_the_run(folder: Path, tiny_llama: Path) -> None:
    manifest, record = read(folder / "manifest.json"), RunFolder(folder).read()
    corpus = load_corpus(record.recipe)
    assert manifest["splits"]["train"]["rows"] == len(corpus.train)
    assert manifest["splits"]["train"]["fingerprint"] == corpus.train.fingerprint()
    assert corpus.validation is not None
    assert manifest["splits"]["validation"]["fingerprint"] == corpus.validation.fingerprint()
    assert record.before.split_fingerprint == record.after.split_fingerprint == corpus.validation.fingerprint()
    assert manifest["model_architecture"] == "LlamaForCausalLM"
    assert len(manifest["model_commit"]) == 64
    assert manifest["device"] == "cpu"
    assert manifest["seeds"] == {"train": 42, "split": 0, "bootstrap": 0}
    assert manifest["train_steps"] == 60
    assert manifest["timings_seconds"].keys() == {"load", "before", "train", "after", "trust"}
    assert manifest["peak_memory_bytes"] > 1e8
    assert {"torch", "transformers", "peft", "bitsandbytes", "python"} <= manifest["versions"].keys()
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert manifest["trainable_parameters"] == sum(tensor.numel() for tensor in adapter.values())
    total = AutoModelForCausalLM.from_pretrained(tiny_llama).num_parameters()
    assert manifest["parameters"] == total + manifest["trainable_parameters"]
    linear = sum(
        tensor.numel() for name, tensor in load_file(tiny_llama / "model.safetensors").items() if "_proj" in name
    )
    assert manifest["adapted_share"] == pytest.approx(linear / total)
    assert [point.step for point in record.history if point.eval_macro_f1 is not None] == [30, 60]


def test_the_stored_recipe_has_every_default(folder: Path) -> None:
    written = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert written["train"]["optim"] == "adamw_torch_fused"
    assert written["task"]["labels"] == list(tiny_models.ONE_TOKEN)
    assert RunFolder(folder).read_recipe().model_dump(mode="json") == written


def test_samples_agree_with_the_predictions(folder: Path) -> None:
    samples, table = read(folder / "samples.json"), columns(folder)
    assert len(samples) == 12
    assert {sample["expected"] for sample in samples} == set(tiny_models.ONE_TOKEN)
    for sample in samples:
        row = table["text"].index(sample["text"])
        assert sample["expected"] == table["label"][row]
        assert sample["before"] == table["before_generated"][row]
        assert sample["after"] == table["after_generated"][row]
        assert sample["after_scored"] == table["after_label"][row]


def test_the_saved_adapter_gives_the_stored_scores(folder: Path) -> None:
    _, engine = load_engine(folder)
    table = columns(folder)
    np.testing.assert_allclose(scores_of(engine, table["text"]), stored_scores(table, "after"), rtol=0, atol=1e-5)


def test_the_adapter_loads_with_plain_peft(folder: Path, tiny_llama: Path) -> None:
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), folder / "adapter").eval()
    backbone, table = tiny_models.load(tiny_llama), columns(folder)
    template = tiny_models.template_of(backbone)
    for row, prompt in enumerate(template.encode(table["text"][:6])):
        for label, answer in zip(tiny_models.ONE_TOKEN, template.answers, strict=True):
            ids = torch.tensor([[*prompt.ids, *answer]])
            with torch.no_grad():
                log_probs = plain(input_ids=ids).logits[0].double().log_softmax(-1)
            positions = range(len(prompt.ids) - 1, len(prompt.ids) + len(answer) - 1)
            total = sum(log_probs[position, token].item() for position, token in zip(positions, answer, strict=True))
            assert total == pytest.approx(table[f"after_log_prob_{label}"][row], abs=1e-4)


def test_the_saved_adapter_gives_the_stored_answers(folder: Path) -> None:
    recipe, engine = load_engine(folder)
    again = evaluate(engine, load_corpus(recipe).split("validation"), recipe.evaluate, "after")
    assert [prediction.generated for prediction in again.predictions] == columns(folder)["after_generated"]


def test_two_runs_of_a_recipe_are_identical(folder: Path, tmp_path: Path) -> None:
    run(RunFolder(folder).read_recipe(), tmp_path / "again")
    for name in ("before.json", "after.json"):
        assert finished_runs.timeless(read(folder / name)) == finished_runs.timeless(read(tmp_path / "again" / name))
    weights = "adapter/adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (tmp_path / "again" / weights).read_bytes()
    assert columns(folder) == columns(tmp_path / "again")
    assert read(folder / "history.json") == read(tmp_path / "again" / "history.json")


def test_a_run_without_generation_records_none(tiny_mistral: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    record = run(finished_runs.recipe_for(tiny_mistral, source, evaluate={"generate": False}), tmp_path / "run")
    assert read(tmp_path / "run" / "after.json")["generate"] is None
    assert [paired.mode for paired in record.paired] == ["calibrated", "score"]
    assert all(sample.after is None for sample in record.samples)
    stored = RunFolder(tmp_path / "run").read()
    assert (stored.before, stored.after, stored.paired) == (record.before, record.after, record.paired)
    assert (stored.history, stored.samples, stored.recipe) == (record.history, record.samples, record.recipe)


def test_a_finished_run_is_read_instead_of_repeated(folder: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    record = run(RunFolder(folder).read_recipe(), folder, "resume")
    assert record == RunFolder(folder).read()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps


def test_overwrite_starts_again_and_keeps_files_of_the_user(tiny_llama: Path, tmp_path: Path) -> None:
    source, path = finished_runs.write_csv(tmp_path / "texts.csv"), tmp_path / "run"
    train_run(finished_runs.recipe_for(tiny_llama, source), path)
    (path / "notes.txt").write_text("mine", encoding="utf-8")
    old = (path / "adapter" / "adapter_model.safetensors").read_bytes()
    train_run(finished_runs.recipe_for(tiny_llama, source, train={"seed": 7}), path, "overwrite")
    assert (path / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (path / "adapter" / "adapter_model.safetensors").read_bytes() != old
    assert RunFolder(path).read_recipe().train.seed == 7


def test_overwriting_with_a_recipe_that_fails_deletes_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    source, path = finished_runs.write_csv(tmp_path / "texts.csv"), tmp_path / "run"
    train_run(finished_runs.recipe_for(tiny_llama, source), path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        run(finished_runs.recipe_for(tiny_llama, tmp_path / "absent.csv"), path, "overwrite")
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_recipe_that_fails_creates_no_folder(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        run(finished_runs.recipe_for(tiny_llama, tmp_path / "absent.csv"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_created_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    with pytest.raises(OutputError, match=r"texts\.csv/run: cannot be written \(Not a directory\)"):
        run(finished_runs.recipe_for(tiny_llama, source), source / "run")


def test_a_changed_label_map_is_another_recipe(tiny_llama: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    train_run(finished_runs.recipe_for(tiny_llama, source, data={"label_map": {"x": "good"}}), tmp_path / "run")
    with pytest.raises(RunError, match=r"another recipe.*different: data\.label_map\.x"):
        train_run(finished_runs.recipe_for(tiny_llama, source), tmp_path / "run", "resume")
