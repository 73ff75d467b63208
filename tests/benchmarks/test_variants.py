"""The benchmark of variants of a recipe runs, and the first line is the recipe as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import variants
from tests.helpers import finished_runs
from whinchat.recipe.loader import write_recipe


def test_variants_are_measured_side_by_side(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    write_recipe(finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv")), tmp_path)
    variant = "adapter.layers_to_transform=[0,1],adapter.r=2"
    variants.main(
        [str(tmp_path / "recipe.yaml"), "--variant", "backbone.layers=1", "--variant", variant, "--rounds", "1"]
    )
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split(" | ")[0] for line in lines] == ["| as it is", "| backbone.layers=1", f"| {variant}"]
    assert lines[0].split(" | ")[2] == "1.00"
    assert all(float(cell) > 0 for line in lines for cell in line.strip("| ").split(" | ")[1:])
