"""The generated reference pages are those of the code."""

from __future__ import annotations

from types import ModuleType

from whinchat.recipe.schema import Recipe


def test_reference_pages_are_up_to_date(generate: ModuleType) -> None:
    stale = generate.stale_pages()
    assert not stale, f"{', '.join(stale)} differ from the code; run `python docs/generate.py`"


def test_every_recipe_key_is_described(generate: ModuleType) -> None:
    page = generate.recipe_page()
    sections = {name: field.annotation for name, field in Recipe.model_fields.items()}
    keys = [f"{name}.{key}" for name in ("task", "data", "train") for key in sections[name].model_fields]  # type: ignore[union-attr]  # these three are sections
    assert all(f"| `{key}`" in page for key in keys)
    row = next(line for line in page.splitlines() if line.startswith("| `adapter.lora_dropout`"))
    assert "| number, ≥ 0, < 1<br>default `0.0` |" in row


def test_every_command_has_a_section(generate: ModuleType) -> None:
    page = generate.command_line_page()
    for name in ("run", "predict", "recipes check", "doctor"):
        assert f"\n## whinchat {name}\n" in page
    assert "| `--wanted-accuracy` | number, ≥ 0, ≤ 1 |" in page
