"""Exports of a classifier that was trained on a model's first layers have its depth, from a run and as it is pushed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf import GGUFReader

from tests.helpers.exports import texts_file
from tests.helpers.finished_runs import recipe_for, write_csv
from whinchat.export.export_run import export_run
from whinchat.hub.repository import repository_of_run
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.run import run


@pytest.fixture(scope="module")
def classifiers(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, and the repository that it is pushed as."""
    work = tmp_path_factory.mktemp("classifiers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHINCHAT_CACHE", str(work / "cache"))
        run(recipe_for(tiny_llama, write_csv(work / "texts.csv"), backbone={"layers": 1}), work / "run")
        for file in repository_of_run(work / "run", "ann/tiny", "ann/base").files:
            path = work / "pushed" / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read())
    recipe = work / "pushed" / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("ann/base", str(tiny_llama)), encoding="utf-8")
    (work / "pushed" / "checksums.json").unlink()
    return {"run": work / "run", "pushed": work / "pushed"}


@pytest.mark.parametrize("where", ["run", "pushed"])
@pytest.mark.parametrize("kind", ["merged", "classifier", "gguf", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_export_has_the_depth_of_its_classifier(
    kind: str,
    where: str,
    classifiers: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    proof = export_run(classifiers[where], kind, out, data=texts_file(tmp_path))
    assert proof.flipped == 0
    # A head of 32 columns has no direction that is the same in all texts, along which a bias would be exact.
    assert min(file.largest_difference for file in proof.files) < (0.05 if kind in {"classifier", "onnx"} else 1e-3)
    if kind == "gguf":
        depths = {GGUFReader(file).get_field("llama.block_count").contents() for file in out.glob("*.gguf")}  # type: ignore[union-attr]  # the field is there
    else:
        depths = {json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]}
    assert depths == {1}
    if kind == "merged":
        assert Predictor.load(out).engine.model.config.num_hidden_layers == 1
