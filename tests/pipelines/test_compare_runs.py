"""``compare_runs``: finished runs read from their folders; the comparison itself is tested in tests/report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.finished_runs import finished_run
from whinchat.errors import OutputError, RunError
from whinchat.pipelines.compare_runs import compare_runs
from whinchat.recipe.schema import Reference
from whinchat.storage.run_folder import RunFolder


@pytest.fixture
def run_path(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return finished_run(tiny_llama)


def test_runs_are_named_after_their_folders_or_paths(run_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_path, tmp_path / "copy")
    comparison = compare_runs([run_path, str(copy)])
    assert [row.name for row in comparison.rows] == ["run", "copy"]
    assert [(pair.first, pair.second, pair.paired.macro_f1_gain) for pair in comparison.pairs] == [("run", "copy", 0.0)]
    assert list(tmp_path.glob("*.png")) == []
    twin = shutil.copytree(run_path, tmp_path / "run")
    assert [row.name for row in compare_runs([run_path, twin]).rows] == [str(run_path), str(twin)]


def test_the_cards_show_the_comparison_without_paths(run_path: Path, tmp_path: Path) -> None:
    runs = [RunFolder(shutil.copytree(run_path, tmp_path / folder / "mine")) for folder in ("ann", "bob")]
    compare_runs([run.path for run in runs], update_cards=True)
    for run, name in zip(runs, ("mine", "mine (2)"), strict=True):
        record = run.read()
        assert record.comparison is not None
        assert record.comparison.run == name
        assert [row.name for row in record.comparison.comparison.rows] == ["mine", "mine (2)"]
        for page in (run.card, run.report):
            text = page.read_text(encoding="utf-8")
            assert "Comparison with other methods" in text
            assert f"{name} (this run)" in text
            assert "/bob/" not in text
    compare_runs([run_path, runs[0].path])
    assert not RunFolder(run_path).comparison.exists(), "cards are left alone unless they are asked for"
    runs[0].clear()
    assert not runs[0].comparison.exists()


def test_a_changed_run_is_not_called_as_published_on_cards(run_path: Path, tmp_path: Path) -> None:
    runs = [RunFolder(shutil.copytree(run_path, tmp_path / f"{name}-as-published")) for name in ("lora", "dora")]
    recipe = runs[0].read_recipe()
    for run, rate in zip(runs, (recipe.train.learning_rate, 0.5), strict=True):
        reference = Reference(title="A card", settings={"train.learning_rate": rate})
        run.write_recipe(recipe.model_copy(update={"reference": reference}))
    compare_runs([run.path for run in runs], update_cards=True)
    for run in runs:
        card = run.card.read_text(encoding="utf-8")
        assert "| lora-as-published " in card
        assert "| dora " in card
        assert "dora-as-published" not in card


def test_a_card_that_cannot_be_written_is_one_clear_error(run_path: Path, tmp_path: Path) -> None:
    runs = [shutil.copytree(run_path, tmp_path / name) for name in ("one", "two")]
    card = RunFolder(runs[0]).comparison
    card.mkdir()  # a folder in place of the file, which stops root as well
    (card / "x").touch()
    with pytest.raises(OutputError, match=r"comparison\.json: cannot be written \(Is a directory\).*--no-cards"):
        compare_runs(runs, update_cards=True)


def test_the_figure_is_written_into_the_named_folder(run_path: Path, tmp_path: Path) -> None:
    compare_runs([run_path], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.png", "comparison.svg"]


def test_a_run_must_exist_and_be_named_once(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the same run is named twice"):
        compare_runs([run_path, run_path])
    with pytest.raises(RunError, match="no such run folder"):
        compare_runs([run_path, tmp_path / "nothing"])
    with pytest.raises(RunError, match="no runs given"):
        compare_runs([])
