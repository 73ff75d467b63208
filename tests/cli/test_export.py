"""What ``whinchat export`` prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.helpers import tiny_questions
from tests.helpers.command_line import Whinchat


def test_export_prints_its_proof(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    result = whinchat("export", a_run, "--to", "merged", "--out", tmp_path / "out", "--json")
    assert result.code == 0
    proof = json.loads(result.out)
    assert (proof["kind"], proof["flipped"], proof["texts"]) == ("merged", 0, 12)
    assert whinchat("predict", tmp_path / "out", "good", "--json").code == 0
    # Once more does nothing; another export does not replace this one.
    assert json.loads(whinchat("export", a_run, "--to", "merged", "--out", tmp_path / "out", "--json").out) == proof
    for other in (("--to", "gguf"), ("--to", "merged", "--tolerance", "0.5")):
        result = whinchat("export", a_run, *other, "--out", tmp_path / "out")
        assert (result.code, "exists already" in result.err) == (2, True)
    result = whinchat("export", a_run, "--to", "nothing")
    assert (result.code, "choose from merged, classifier, gguf, onnx" in result.err) == (2, True)


def test_every_file_of_a_gguf_export_is_printed(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    result = whinchat("export", a_run, "--to", "gguf", "--out", tmp_path / "out", "--tolerance", "0.5")
    assert result.code == 0
    assert "tiny-f16.gguf: 0 of 12 labels differ" in result.out
    assert "tiny-q8_0.gguf: " in result.out
    assert "without calibration, as in free generation: " in result.out


def test_questions_are_exported_to_a_folder_each(whinchat: Whinchat, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_questions.finished_run(tiny_llama), folder)
    result = whinchat("export", folder, "--to", "merged", "--question", "tags/sea")
    assert (result.code, "0 of 10 answers to tags/sea differ" in result.out) == (0, True)
    assert json.loads(whinchat("predict", folder / "export" / "merged-tags-sea", "good", "--json").out)["label"]
    result = whinchat("export", folder, "--to", "merged")
    assert (result.code, "compared with the classifier's own answers about 10 texts" in result.out) == (0, True)
    assert [line.split()[:3] for line in result.out.splitlines() if "model.safetensors" in line] == [
        ["model.safetensors", question, "0"] for question in ("mood", "rain", "quality", "tags/train", "tags/sea")
    ]
    answers = json.loads(whinchat("predict", folder / "export" / "merged", "good", "--json").out)["answers"]
    assert list(answers) == ["mood", "rain", "quality", "tags"]
    result = whinchat("export", folder, "--to", "onnx")
    assert (result.code, "choose one with --question: mood, rain" in result.err) == (2, True)
