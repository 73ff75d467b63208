"""A classifier with questions is exported one decision at a time, or with all its questions, and answers alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.exports import TEXTS
from tests.helpers.shared_folders import make_once
from whinchat.errors import DataError, ModelError, RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.export import export_run as exporting
from whinchat.export import gguf_export, gguf_reader, merged
from whinchat.export.export_registry import export_names, find_exporter, holds_all_questions, holds_student
from whinchat.export.export_run import export_run
from whinchat.export.exporter import ExportProof, QuestionExporter, StudentExporter
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictions, QuestionPredictor, load_predictor
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.run import run
from whinchat.recipe.schema import Recipe

WORDS = {"very bad": "bad", "very fine": "fine", "very good": "good", "hopeless": "nine"}
DECISIONS = ("mood", "rain", "quality", "tags/train", "tags/sea")


@pytest.fixture(scope="module")
def asked(tiny_llama: Path) -> Path:
    """A finished run with a question of each type, whose answers have a single token each."""

    def make(folder: Path) -> None:
        folder.mkdir()
        model = tiny_models.make_llama(folder / "model", texts=["yes", "no", "nine"] * 40)
        raw = tiny_questions.table_recipe(model, tiny_questions.write_table(folder / "table.csv")).model_dump()
        raw["task"]["questions"]["mood"]["answers"] = WORDS
        run(Recipe.model_validate(raw), folder / "run")

    return make_once(tiny_llama.parent / "one-token-questions", make) / "run"


@pytest.fixture
def unbiased(asked: Path, monkeypatch: pytest.MonkeyPatch) -> QuestionPredictions:
    """The answers of the classifier whose calibrations have no bias, which a head can only come near to."""
    predictor = QuestionPredictor.load(asked)
    labels = (calibrator.labels for calibrator in predictor.calibrators)
    calibrators = tuple(Calibrator(names, temperature=0.5 + place) for place, names in enumerate(labels))
    changed = replace(predictor, calibrators=calibrators)
    monkeypatch.setattr(exporting.QuestionPredictor, "load", classmethod(lambda cls, path, student: changed))
    return changed.predict(texts_of(TEXTS))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The columns of which the recipe makes ``texts_of(TEXTS)``."""
    path = tmp_path / "table.jsonl"
    rows = (json.dumps({"title": "rain", "body": text}) + "\n" for text in TEXTS)
    path.write_text("".join(rows), encoding="utf-8")
    return path


def texts_of(bodies: list[str]) -> list[str]:
    return [f"rain\n\n{body}" for body in bodies]


@pytest.mark.parametrize("question", DECISIONS[:4])
def test_a_merged_decision_is_an_ordinary_classifier(asked: Path, table: Path, tmp_path: Path, question: str) -> None:
    proof = export_run(asked, "merged", tmp_path / "out", question=question, data=table)
    assert [file.question for file in proof.files] == [question]
    own = QuestionPredictor.load(asked).predict(texts_of(TEXTS)).decisions[DECISIONS.index(question)]
    predictor = load_predictor(tmp_path / "out")
    assert isinstance(predictor, Predictor)
    assert predictor.recipe.task.labels == own.labels
    np.testing.assert_allclose(predictor.predict(texts_of(TEXTS)).probabilities, own.probabilities, atol=1e-5)
    with pytest.raises(RunError, match="out: has labels and no questions; load it with Predictor"):
        QuestionPredictor.load(tmp_path / "out")


@pytest.mark.parametrize("question", DECISIONS[:4])
def test_a_pipeline_answers_a_decision(
    asked: Path, unbiased: QuestionPredictions, table: Path, tmp_path: Path, question: str
) -> None:
    export_run(asked, "classifier", tmp_path / "out", question=question, data=table)
    own = unbiased.decisions[DECISIONS.index(question)]
    rows = pipeline("text-classification", str(tmp_path / "out"))(texts_of(TEXTS), top_k=None)
    shares = [{entry["label"]: entry["score"] for entry in row} for row in rows]
    read = [[row[label] for label in own.labels] for row in shares]
    np.testing.assert_allclose(read, own.probabilities, atol=1e-4)


@pytest.mark.parametrize(
    "question", [*(pytest.param(name, marks=pytest.mark.slow) for name in DECISIONS[:4]), DECISIONS[4]]
)
@pytest.mark.usefixtures("unbiased")
def test_onnxruntime_answers_a_decision(asked: Path, table: Path, tmp_path: Path, question: str) -> None:
    proof = export_run(asked, "onnx", tmp_path / "out", question=question, data=table)
    assert (proof.kind, proof.files[0].question) == ("onnx", question)
    assert proof.largest_difference < 1e-4


@pytest.mark.parametrize(
    ("question", "stem"),
    [("mood", "tiny-mood"), ("rain", "tiny-rain"), ("quality", "tiny-quality"), ("tags/train", "tiny-tags-01")],
)
def test_llama_cpp_answers_a_decision(asked: Path, table: Path, tmp_path: Path, question: str, stem: str) -> None:
    proof = export_run(asked, "gguf", tmp_path / "out", question=question, data=table, tolerance=0.5)
    half, eighth = proof.files
    assert (half.file, eighth.file, half.question) == (f"{stem}-f16.gguf", f"{stem}-q8_0.gguf", question)
    assert half.largest_difference < 0.01
    modelfile = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    decision = tiny_questions.recipe_for("model").task.decisions[DECISIONS.index(question)]
    assert decision.prompt.splitlines()[0] in modelfile
    assert f"ollama create {stem} -f Modelfile" in modelfile


def plain_answers(folder: Path, text: str) -> list[np.ndarray]:
    """Answer every question of a merged folder by ``prompts.json``, as its how-to says, with transformers alone."""
    asked = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for decision in asked["decisions"]:
        system = [] if asked["system"] is None else [{"role": "system", "content": asked["system"]}]
        messages = [*system, {"role": "user", "content": decision["before"] + text + decision["after"]}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids = [*([] if asked["bos"] is None else [asked["bos"]]), *ids]
        scores = []
        for answer in decision["answers"]:
            with torch.no_grad():
                log_probs = model(torch.tensor([[*ids, *answer]])).logits[0].double().log_softmax(dim=1)
            scores.append(sum(float(log_probs[len(ids) - 1 + step, token]) for step, token in enumerate(answer)))
        found.append(softmax(np.array(scores) / decision["temperature"] + decision["offsets"]))
    return found


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_mistral", "tiny_mistral_inst"])
def test_merged_holds_all_questions(model: str, table: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    trained = tiny_questions.finished_run(request.getfixturevalue(model))
    proof = export_run(trained, "merged", tmp_path / "out", data=table)
    assert [file.question for file in proof.files] == list(DECISIONS)
    assert proof.largest_difference < 1e-4
    # The folder is a classifier like any other, whose decisions can be exported in turn.
    again = export_run(tmp_path / "out", "gguf", tmp_path / "again", question="quality", data=table, tolerance=0.5)
    assert again.files[0].largest_difference < 0.01
    predictor = load_predictor(tmp_path / "out")
    assert isinstance(predictor, QuestionPredictor)
    expected = QuestionPredictor.load(trained).predict(texts_of(TEXTS[:3]))
    for row, answer in enumerate(map(predictor.predict, [[text] for text in texts_of(TEXTS[:3])])):
        assert answer.answers("tags") == expected[row : row + 1].answers("tags")
        plain = plain_answers(tmp_path / "out", texts_of(TEXTS)[row])
        for own, read, by_hand in zip(expected.decisions, answer.decisions, plain, strict=True):
            np.testing.assert_allclose(read.probabilities[0], own.probabilities[row], atol=1e-5)
            np.testing.assert_allclose(by_hand, own.probabilities[row], atol=1e-5)


@pytest.mark.parametrize("reader", ["llama_cpp", "transformers"])
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_mistral_inst"])
def test_gguf_holds_all_questions(
    model: str,
    reader: str,
    table: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reader == "llama_cpp":
        pytest.importorskip("llama_cpp")
    else:
        monkeypatch.setattr(gguf_reader, "find_spec", lambda name: None)
    trained = tiny_questions.finished_run(request.getfixturevalue(model))
    proof = export_run(trained, "gguf", tmp_path / "out", data=table, tolerance=0.5)
    names = ["Modelfile", "prompts.json", "proof.json", "tiny-f16.gguf", "tiny-q8_0.gguf"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    halves = proof.files[: len(DECISIONS)]
    assert [(file.file, file.question) for file in halves] == [("tiny-f16.gguf", name) for name in DECISIONS]
    assert all(file.largest_difference < 0.02 for file in halves)
    plain = QuestionPredictor.load(trained)
    expected = plain.predict(texts_of(TEXTS[:20]))
    for index, file in enumerate(halves):
        single = Predictor(plain.recipe, plain.engines[index], plain.calibrators[index])
        uncalibrated = single.score(texts_of(TEXTS[:20])).argmax(axis=1)
        assert file.flipped_uncalibrated == (uncalibrated != expected.decisions[index].label_indices).sum()
    modelfile = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    # A model without a system role has the instruction in each question's message.
    assert ("SYSTEM" in modelfile) is (model == "tiny_llama")
    assert "mood" not in modelfile
    assert modelfile.endswith("PARAMETER num_predict 4\n")


def test_answers_that_differ_name_their_question(
    asked: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gguf_export.gguf_question_scores

    def spoilt(*arguments: Any) -> list[np.ndarray]:
        found = real(*arguments)
        return [*found[:3], -found[3], found[4]]

    monkeypatch.setattr(gguf_export, "gguf_question_scores", spoilt)
    with pytest.raises(ModelError, match=r"answers to tags/train differ from the classifier's own in tiny-f16\.gguf"):
        export_run(asked, "gguf", tmp_path / "out", data=table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.jsonl"]


def test_prompts_that_differ_are_not_exported(
    asked: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = merged.QuestionPrompts.read

    def spoilt(folder: Path) -> Any:
        prompts = real(folder)
        return type(prompts)(**{**vars(prompts), "system": "Answer!"})

    monkeypatch.setattr(merged.QuestionPrompts, "read", spoilt)
    with pytest.raises(ModelError, match=r"prompts\.json: transformers makes another prompt .* as for the text 'rain"):
        export_run(asked, "merged", tmp_path / "out", data=table)


@pytest.mark.parametrize(
    ("kind", "question", "message"),
    [
        ("onnx", None, r"onnx: holds one decision, and this classifier makes 5; choose one with --question: mood, "
         r"rain, quality, tags/train, tags/sea\. These formats hold all of them: merged and gguf"),
        ("merged", "qualty", r"there is no such question; choose from mood, .*; did you mean quality\?"),
        ("merged", "tags", r"is a multi question, .*; choose one of tags/train, tags/sea"),
        ("merged", "tags/boat", r"there is no such question; choose from mood, "),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen(asked: Path, tmp_path: Path, kind: str, question: str | None, message: str) -> None:
    with pytest.raises(RunError, match=message):
        export_run(asked, kind, tmp_path / "out", question=question)


def test_labels_have_no_questions(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--question mood: this classifier has labels and no questions"):
        export_run(trained, "merged", tmp_path / "out", question="mood")


def test_finished_exports_of_other_questions_are_told_apart(asked: Path, table: Path, tmp_path: Path) -> None:
    def export(question: str | None) -> ExportProof:
        return export_run(asked, "merged", tmp_path / "out", question=question, data=table)

    proof = export("rain")
    assert export("rain") == proof
    for other in ("quality", None):
        with pytest.raises(RunError, match="exists already"):
            export(other)


def test_a_decision_is_not_evaluated_on_rows_of_its_training(asked: Path, table: Path, tmp_path: Path) -> None:
    """The splits of the run were drawn for all questions; those of a single one would be others."""
    export_run(asked, "merged", tmp_path / "out", question="rain", data=table)
    with pytest.raises(DataError, match="no column 'answers to rain of tiny'"):
        evaluate_run(tmp_path / "out")


def test_every_format_says_what_it_holds() -> None:
    held = {name: holds_all_questions(name) for name in export_names()}
    assert held == {"merged": True, "classifier": False, "gguf": True, "onnx": False, "student": False}
    assert held == {name: isinstance(find_exporter(name), QuestionExporter) for name in export_names()}
    students = {name: holds_student(name) for name in export_names()}
    assert students == {name: isinstance(find_exporter(name), StudentExporter) for name in export_names()}


def test_many_questions_are_proved_on_fewer_texts(
    asked: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PROOF_ANSWERS", 50)
    monkeypatch.setattr(exporting, "FEWEST_PROOF_ROWS", 4)
    assert export_run(asked, "merged", tmp_path / "all", data=table).texts == 10
    assert export_run(asked, "merged", tmp_path / "one", question="rain", data=table).texts == 20


def test_the_evidence_of_a_decision_is_no_classifier(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"01: is the evidence of one decision; name the whole run, .*/run$"):
        export_run(asked / "questions" / "tags" / "01", "merged", tmp_path / "out")
