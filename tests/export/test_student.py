"""An exported student answers like the student in whinchat, with onnxruntime and numpy alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers import tiny_models
from tests.helpers.command_line import Whinchat
from tests.helpers.distilled_runs import UNSURE, distilled_questions, distilled_run
from tests.helpers.exports import TEXTS, texts_file
from whinchat.data.cleaning import clean
from whinchat.errors import ModelError, RunError
from whinchat.evaluation.ngram_student import MOST_BYTES, NgramStudent
from whinchat.export import export_run as exporting
from whinchat.export import student_export
from whinchat.export.export_registry import register_export, unregister_export
from whinchat.export.export_run import export_run
from whinchat.export.exporter import HARD_TEXTS, FileProof, StudentExporter, StudentExportJob
from whinchat.export.student_graph import write_student_graph
from whinchat.inference.cascade import load_cascade
from whinchat.inference.predictor import Predictor
from whinchat.recipe.loader import write_recipe
from whinchat.report.student_readme import student_readme
from whinchat.storage.locate import find_classifier
from whinchat.storage.run_folder import RunFolder

# Whatever whinchat needs besides numpy and onnxruntime is not there.
ISOLATED = "import sys; sys.modules.update(dict.fromkeys(('whinchat', 'torch', 'scipy', 'transformers', 'onnx')));"


@pytest.fixture(scope="module")
def labels_run(tiny_llama: Path) -> Path:
    return distilled_run(tiny_llama)


@pytest.fixture(scope="module")
def questions_run(tiny_llama: Path) -> Path:
    return distilled_questions(tiny_llama)


@pytest.fixture
def no_model(labels_run: Path, questions_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded once both runs are there."""
    for kind in (exporting.Predictor, exporting.QuestionPredictor):
        monkeypatch.setattr(kind, "load", lambda *_, **__: pytest.fail("a model was loaded"))


def readme_answers(folder: Path, texts: list[str]) -> dict[str, Any]:
    """Run the code of the README on ``texts``, isolated, and return its variables."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    program = code[1].replace('["what a lovely day", "meh"]', repr(texts))
    assert program != code[1]
    shown = "{'probabilities': [own.tolist() for own in probabilities], 'confidence': confidence.tolist()}"
    done = subprocess.run(
        [sys.executable, "-c", f"{ISOLATED}\n{program}\nprint(json.dumps({shown}))"],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.splitlines()
    return {**json.loads(last), "printed": printed}


@pytest.mark.usefixtures("no_model")
def test_onnxruntime_answers_as_the_student_does(labels_run: Path, tmp_path: Path) -> None:
    run, out = labels_run, tmp_path / "out"
    proof = export_run(run, "student", out, data=texts_file(tmp_path))
    assert (proof.kind, proof.flipped, proof.texts) == ("student", 0, len(TEXTS) + len(HARD_TEXTS))
    assert proof.largest_difference < 1e-12
    assert [file.file for file in proof.files] == ["student.onnx"]
    names = ["README.md", "checksums.json", "proof.json", "student.json", "student.onnx"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name, digest in json.loads((out / "checksums.json").read_text(encoding="utf-8")).items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    session = onnxruntime.InferenceSession(out / "student.onnx")
    assert [(tensor.name, tensor.shape) for tensor in session.get_inputs()] == [
        ("bytes", ["texts", "longest"]),
        ("lengths", ["texts"]),
    ]
    assert [tensor.name for tensor in session.get_outputs()] == ["probabilities", "confidence"]
    cascade = load_cascade(find_classifier(run))
    assert cascade is not None
    facts = json.loads((out / "student.json").read_text(encoding="utf-8"))
    assert facts["decisions"][0]["labels"] == list(tiny_models.ONE_TOKEN)
    assert facts["test"]["threshold"] == cascade.facts.test.threshold


def test_the_readme_s_code_answers_as_predict_does(labels_run: Path, tmp_path: Path) -> None:
    run, out = labels_run, tmp_path / "out"
    export_run(run, "student", out, data=texts_file(tmp_path))
    texts = [*(f"{text} {row}" for row, text in enumerate(TEXTS)), *UNSURE]
    read = readme_answers(out, texts)
    predictions = Predictor.load(run).predict(texts)
    assert predictions.by_student is not None
    assert 0 < predictions.by_student.sum() < len(texts)
    threshold = json.loads((out / "student.json").read_text(encoding="utf-8"))["test"]["threshold"]
    sure = np.array(read["confidence"]) >= threshold
    assert sure.tolist() == predictions.by_student.tolist()
    own = np.array(read["probabilities"][0])
    np.testing.assert_allclose(own[sure], predictions.probabilities[sure], rtol=0, atol=1e-12)
    assert f"['{predictions.label_names[0]}'" in read["printed"][0] or not sure[0]


@pytest.mark.usefixtures("no_model")
def test_all_questions_are_held(questions_run: Path, tmp_path: Path) -> None:
    run, out = questions_run, tmp_path / "out"
    proof = export_run(run, "student", out)
    recipe = RunFolder(run).read_recipe()
    addresses = [decision.address for decision in recipe.task.decisions]
    assert [file.question for file in proof.files] == addresses
    assert proof.largest_difference < 1e-12
    facts = json.loads((out / "student.json").read_text(encoding="utf-8"))
    assert [own["output"] for own in facts["decisions"]] == [f"probabilities/{address}" for address in addresses]
    assert [(own["question"], own["option"]) for own in facts["decisions"][-2:]] == [("tags", "train"), ("tags", "sea")]
    assert [tuple(own["labels"]) for own in facts["decisions"]] == [own.labels for own in recipe.task.decisions]
    cascade = load_cascade(find_classifier(run, with_questions=True))
    assert cascade is not None
    texts = ["tea\n\nfine sea day", "", "rain 🙂"]
    read = readme_answers(out, texts)
    answers, sure = cascade.answer(texts)
    for own, expected in zip(read["probabilities"], answers, strict=True):
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)
    assert (np.array(read["confidence"]) >= facts["test"]["threshold"]).tolist() == sure.tolist()
    assert "All questions about a text" in (out / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="--question rain: student holds a student, which answers all questions"):
        export_run(run, "student", tmp_path / "rain", question="rain")


def a_student(sizes: tuple[int, ...] = (3,), buckets: int = 512, used: float = 0.5) -> NgramStudent:
    draw = np.random.default_rng(0)
    labels = sum(sizes)
    idf = np.where(draw.random(buckets) < used, draw.uniform(1, 9, buckets), 0).astype(np.float32)
    weights = draw.normal(size=(buckets, labels)).astype(np.float32)
    return NgramStudent(sizes, idf, weights, draw.normal(size=labels).astype(np.float32))


def graph_answers(student: NgramStudent, texts: list[str], file: Path, padding: int = 0) -> list[np.ndarray]:
    write_student_graph(student, [f"own{place}" for place in range(len(student.sizes))], file)
    rows = [f" {' '.join(text.lower().split())} ".encode(errors="replace") for text in texts]
    data = np.random.default_rng(1).integers(256, size=(len(rows), max(map(len, rows)) + padding)).astype(np.uint8)
    for place, row in zip(data, rows, strict=True):
        place[: len(row)] = np.frombuffer(row, dtype=np.uint8)
    session = onnxruntime.InferenceSession(file)
    found: list[np.ndarray] = session.run(None, {"bytes": data, "lengths": np.array([len(row) for row in rows])})
    return found


@pytest.mark.parametrize("sizes", [(2,), (3,), (3, 2, 5)])
@pytest.mark.parametrize("used", [0.0, 0.2, 1.0])
def test_the_graph_is_the_student_on_hard_texts(sizes: tuple[int, ...], used: float, tmp_path: Path) -> None:
    student, texts = a_student(sizes, used=used), [*HARD_TEXTS, *TEXTS]
    *read, confidence = graph_answers(student, texts, tmp_path / "student.onnx")
    expected = [np.exp(own) for own in student.log_probabilities(texts)]
    for own, other in zip(read, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-12)
    np.testing.assert_allclose(confidence, np.min([own.max(axis=1) for own in expected], axis=0), atol=1e-12)
    # Alone, and with more padding than the longest text needs.
    for text in HARD_TEXTS:
        (own, *_) = graph_answers(student, [text], tmp_path / "student.onnx", padding=7)
        np.testing.assert_allclose(own, np.exp(student.log_probabilities([text])[0]), rtol=0, atol=1e-12)


def test_hard_texts_are_longer_than_a_student_reads() -> None:
    assert {len(text.encode(errors="replace")) > MOST_BYTES for text in HARD_TEXTS[-2:]} == {True}
    # The cut goes through a character.
    with pytest.raises(UnicodeDecodeError):
        f" {HARD_TEXTS[-2]} ".encode()[:MOST_BYTES].decode()


def test_rows_of_unused_buckets_are_left_out_where_that_is_smaller(tmp_path: Path) -> None:
    sizes = []
    for used in (0.1, 0.5, 1.0):
        graph_answers(a_student(buckets=2**14, used=used), ["a"], tmp_path / "student.onnx")
        sizes.append((tmp_path / "student.onnx").stat().st_size)
    table = 2**14 * 4
    assert table * 1.3 < sizes[0] < table * 1.6, "a tenth of four columns, and the row of each bucket"
    assert sizes[1] < sizes[2] < table * 4 + 10_000


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("html_entities",),
        ("json_escapes", "spaces"),
        ("links", "mentions", "spaces", "json_escapes", "html_entities"),
    ],
)
def test_the_readme_s_code_cleans_as_the_recipe_does(steps: tuple[Any, ...], labels_run: Path, tmp_path: Path) -> None:
    student = a_student(buckets=2**15, used=1.0)
    cascade = load_cascade(find_classifier(labels_run))
    assert cascade is not None
    write_student_graph(student, ["probabilities"], tmp_path / "student.onnx")
    (tmp_path / "README.md").write_text(student_readme("mine", steps, MOST_BYTES, cascade.facts), encoding="utf-8")
    facts = {
        "decisions": [{"output": "", "labels": ["a", "b", "c"]}],
        "most_bytes": MOST_BYTES,
        "test": {"threshold": 1},
    }
    (tmp_path / "student.json").write_text(json.dumps(facts), encoding="utf-8")
    texts = [
        "a &amp; b &quot;c&quot; &lt;3", r"it\u2019s \ud83d\ude42 \ud83d alone", r'said \"\"hi\"\" and ""x""',
        r"two\nlines\tand \r",        "  much \t space\u3000here ", r"&amp;amp; \\u0041 \u00e9\u00e8", "",
        ".@Bob_1: me@example.com, see Https://t.co/x?y=1 ok", *TEXTS[:3],
    ]  # fmt: skip
    read = readme_answers(tmp_path, texts)
    (expected,) = student.log_probabilities([clean(text, steps) for text in texts])
    np.testing.assert_allclose(read["probabilities"][0], np.exp(expected), rtol=0, atol=1e-12)


def test_cleaning_is_left_to_the_user(labels_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(labels_run, tmp_path / "run")
    recipe = RunFolder(run).read_recipe()
    recipe = recipe.model_copy(update={"task": recipe.task.model_copy(update={"clean": ("html_entities",)})})
    for folder in (run, run / "adapter"):
        write_recipe(recipe, folder)
    proof = export_run(run, "student", tmp_path / "out", data=texts_file(tmp_path, ["good &amp; bad", "fine"] * 3))
    assert (proof.not_carried, proof.flipped) == (("html_entities",), 0)
    assert "It is cleaned by these steps, in this order: `html_entities`." in (
        tmp_path / "out" / "README.md"
    ).read_text(encoding="utf-8")


def test_a_graph_that_answers_otherwise_is_not_kept(
    labels_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(student: NgramStudent, outputs: list[str], file: Path) -> None:
        # Less than would change a label, or than two decimals show.
        write_student_graph(
            NgramStudent(student.sizes, student.idf, student.weights * 1.001, student.bias), outputs, file
        )

    monkeypatch.setattr(student_export, "write_student_graph", spoilt)
    message = (
        r"out/student\.onnx: not exported: onnxruntime answers otherwise than the student, by up to .* in probability"
    )
    with pytest.raises(ModelError, match=message):
        export_run(labels_run, "student", tmp_path / "out", data=texts_file(tmp_path), tolerance=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.jsonl"]


class WeightsExporter(StudentExporter):
    """Writes the weights of a student for programs that count n-grams themselves."""

    name = "weights"

    def write_student(self, job: StudentExportJob) -> None:
        student = job.cascade.student
        np.savez(job.folder / "student.npz", idf=student.idf, weights=student.weights, bias=student.bias)

    def prove_student(self, job: StudentExportJob) -> tuple[FileProof, ...]:
        read = NgramStudent(job.cascade.student.sizes, **np.load(job.folder / "student.npz"))
        return job.compare("student.npz", "numpy", [np.exp(own) for own in read.log_probabilities(job.texts)])


def test_a_format_of_students_can_be_registered(labels_run: Path, tmp_path: Path) -> None:
    register_export(WeightsExporter())
    try:
        proof = export_run(labels_run, "weights", tmp_path / "out", data=texts_file(tmp_path))
    finally:
        unregister_export("weights")
    assert (proof.kind, proof.flipped, proof.files[0].file) == ("weights", 0, "student.npz")
    assert (tmp_path / "out" / "proof.json").is_file()


def test_a_run_without_a_student_is_refused(trained: Path, tmp_path: Path, whinchat: Whinchat) -> None:
    message = "adapter: this classifier has no student; `whinchat distill RUN` makes a new one"
    with pytest.raises(RunError, match=message):
        export_run(trained, "student", tmp_path / "out")
    result = whinchat("export", trained, "--to", "student")
    assert (result.code, message in result.err) == (2, True)


@pytest.mark.parametrize("damage", ["lost", "cut", "cut, without checksums", "other calibration"])
def test_a_damaged_student_is_refused(labels_run: Path, tmp_path: Path, damage: str) -> None:
    run = shutil.copytree(labels_run, tmp_path / "run")
    weights, checksums = run / "adapter" / "cascade.safetensors", run / "adapter" / "checksums.json"
    if damage == "lost":
        weights.unlink()
    elif damage == "other calibration":
        (run / "adapter" / "calibration.json").write_text("{}", encoding="utf-8")
        checksums.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-4])
        if damage != "cut":
            checksums.unlink()  # as in a folder of version 0.1
    with pytest.raises((ModelError, RunError), match="whinchat distill"):
        export_run(run, "student", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_compared(
    labels_run: Path, questions_run: Path, tmp_path: Path, whinchat: Whinchat
) -> None:
    result = whinchat("export", labels_run, "--to", "student", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "student.onnx: 0 of 31 labels differ from the student's own" in result.out
    result = whinchat("export", questions_run, "--to", "student", "--out", tmp_path / "questions")
    assert "all questions, compared with the student's own answers about" in result.out


def test_without_a_threshold_the_readme_says_so(
    labels_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(labels_run, tmp_path / "run")
    file = run / "adapter" / "cascade.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["test"].update(threshold=None, answered=0, agreeing=0, interval=None)
    file.write_text(json.dumps(content), encoding="utf-8")
    (run / "adapter" / "checksums.json").unlink()
    export_run(run, "student", tmp_path / "out", data=texts_file(tmp_path))
    assert "no confidence passed the test" in caplog.text
    assert "no confidence passed the test" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert readme_answers(tmp_path / "out", ["good"])["confidence"]


def test_the_same_student_has_the_same_bytes_and_old_operators(tmp_path: Path) -> None:
    student = a_student()
    for name in ("one", "two"):
        write_student_graph(student, ["probabilities"], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    model = onnx.load(tmp_path / "one")
    assert (model.ir_version, [own.version for own in model.opset_import]) == (8, [18])
