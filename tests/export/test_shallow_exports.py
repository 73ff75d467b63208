"""Exports of a classifier that was trained on a model's first layers have its depth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf import GGUFReader

from tests.helpers.exports import texts_file
from tests.helpers.finished_runs import recipe_for, write_csv
from whinchat.export.export_run import export_run
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.run import run


@pytest.mark.parametrize("kind", ["merged", "classifier", "gguf"])
def test_an_export_has_the_depth_of_its_classifier(
    kind: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    recipe = recipe_for(tiny_llama, write_csv(tmp_path / "texts.csv"), backbone={"layers": 1})
    run(recipe, tmp_path / "run")
    out = tmp_path / "out"
    proof = export_run(tmp_path / "run", kind, out, data=texts_file(tmp_path))
    assert proof.flipped == 0
    if kind == "gguf":
        depths = {GGUFReader(file).get_field("llama.block_count").contents() for file in out.glob("*.gguf")}  # type: ignore[union-attr]  # the field is there
    else:
        depths = {json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]}
    assert depths == {1}
    if kind == "merged":
        assert Predictor.load(out).engine.model.config.num_hidden_layers == 1
