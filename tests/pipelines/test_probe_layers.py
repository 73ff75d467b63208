"""``whinchat layers``: how many layers a task needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_questions
from tests.helpers.command_line import command_runner
from tests.helpers.zoo import ZOO
from whinchat.cli.printing.inspection import print_probe
from whinchat.errors import DataError
from whinchat.pipelines.probe_layers import LayerProbe, probe_layers
from whinchat.recipe.loader import write_recipe


def test_each_depth_of_a_recipe(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv", rows=200))
    probe = probe_layers(recipe, rows=150)
    assert (probe.rows, len(probe.macro_f1), len(probe.standard_error)) == (150, 2, 2)
    assert all(0 <= score <= 1 for score in probe.macro_f1)
    assert probe.layers in (1, 2)
    assert probe.can_be_cut
    write_recipe(recipe, tmp_path)
    whinchat = command_runner(monkeypatch, capsys)
    printed = json.loads(whinchat("layers", tmp_path / "recipe.yaml", "--rows", "150", "--json").out)
    assert printed["macro_f1"] == list(probe.macro_f1), "the same rows and folds each time"
    assert "layers are the fewest within one standard error" in whinchat("layers", tmp_path / "recipe.yaml").out


@pytest.mark.parametrize(
    ("layers", "can_be_cut", "said", "unsaid"),
    [
        (1, True, "compare runs: whinchat run mine.yaml --set backbone.layers=1", "never tested"),
        (1, False, "backbone.layers does not take this kind of model", "--set"),
        (2, True, "so keep all 2", "--set"),
        (None, True, "No depth is recommended: none exceeds 0.700, which chance alone reaches", "--set"),
    ],
)
def test_advice_that_can_be_followed(
    layers: int | None, can_be_cut: bool, said: str, unsaid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_probe(LayerProbe("tiny", 50, (0.5, 0.6), (0.1, 0.1), 0.7, layers, can_be_cut, 1.0), "mine.yaml")
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed
    assert unsaid not in printed


def test_labels_that_no_layer_knows(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "text,label\n" + "".join(f"note {row * 7919 % 997},{'ab'[row * row % 7 % 2]}\n" for row in range(80))
    (tmp_path / "texts.csv").write_text(table, encoding="utf-8")
    recipe = finished_runs.recipe_for(
        tiny_llama, tmp_path / "texts.csv", task={"labels": ["a", "b"], "instruction": "Say a or b."}
    )
    write_recipe(recipe, tmp_path)
    whinchat = command_runner(monkeypatch, capsys)
    printed = json.loads(whinchat("layers", tmp_path / "recipe.yaml", "--json").out)
    assert printed["layers"] is None
    assert max(printed["macro_f1"]) <= printed["chance"]
    assert "No depth is recommended" in whinchat("layers", tmp_path / "recipe.yaml").out


def test_a_kind_of_model_that_cannot_be_cut(tmp_path: Path) -> None:
    folder = ZOO["Zamba2"].save(tmp_path / "zamba2")
    recipe = finished_runs.recipe_for(folder, finished_runs.write_csv(tmp_path / "texts.csv"))
    assert not probe_layers(recipe, rows=30).can_be_cut


def test_questions_are_probed_together(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = tiny_questions.table_recipe(tiny_llama, tiny_questions.write_table(tmp_path / "table.csv"))
    assert len(probe_layers(recipe).macro_f1) == 2


def test_too_few_rows(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"))
    with pytest.raises(DataError, match="6 rows were read, and fewer than two labels have 5 rows"):
        probe_layers(recipe, rows=6)
