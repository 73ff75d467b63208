"""``whinchat export``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.command_line import Whinchat


def test_export_says_what_its_proof_found(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    said = whinchat("export", a_run, "--to", "merged", "--out", tmp_path / "out", "--json")
    assert said.code == 0
    shown = json.loads(said.out)
    assert (shown["kind"], shown["flipped"], shown["texts"]) == ("merged", 0, 12)
    assert whinchat("predict", tmp_path / "out", "good", "--json").code == 0
    said = whinchat("export", a_run, "--to", "merged", "--out", tmp_path / "out")
    assert (said.code, "exists already" in said.err) == (2, True)
    said = whinchat("export", a_run, "--to", "nothing")
    assert (said.code, "choose from merged, classifier, gguf, onnx" in said.err) == (2, True)


def test_every_file_of_a_gguf_export_is_told(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    said = whinchat("export", a_run, "--to", "gguf", "--out", tmp_path / "out", "--tolerance", "0.5")
    assert said.code == 0
    assert "tiny-f16.gguf: 0 of 12 labels differ" in said.out
    assert "tiny-q8_0.gguf: " in said.out
    assert "without calibration.json, as in free generation: " in said.out
