"""Which folder a command writes to by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from whinchat.cli.options import run_folder_name


@pytest.mark.parametrize(
    ("recipe", "folder"),
    [
        ("demo", "demo"),
        ("mine.yaml", "mine"),
        ("sub/my tickets.yml", "my tickets"),
        ("sub/recipe.yaml", "demo"),
        ("sub", "demo"),
    ],
)
def test_a_run_is_named_after_the_file_of_its_recipe(
    recipe: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for file in ("mine.yaml", "sub/my tickets.yml", "sub/recipe.yaml"):
        (tmp_path / file).write_text("name: demo", encoding="utf-8")
    assert run_folder_name(recipe, "demo") == folder
