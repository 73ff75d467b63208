"""What ``whinchat inspect`` and ``whinchat check`` say of a recipe with questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command_line import Whinchat
from tests.helpers.tables import write_file
from whinchat.errors import RecipeError
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.pipelines.check_recipe import check_recipe
from whinchat.pipelines.inspect_example import inspect_example
from whinchat.pipelines.inspect_questions import inspect_questions
from whinchat.recipe.loader import load_recipe

QUESTIONS = {
    "team": {"type": "choice", "instructions": "Which team?", "options": {"returns": "Refunds", "billing": ""}},
    "angry": {"type": "yes_no", "instructions": "Angry?"},
    "tags": {"type": "multi", "instructions": "Which apply?", "options": ["refund", "bug"]},
}


@pytest.fixture
def recipe_path(tiny_llama: Path, tmp_path: Path) -> Path:
    rows = [
        {
            "title": f"title {number}",
            "body": f"body{'  ' if number % 2 else ' '}{number}",
            "team": ("returns", "billing")[number % 2],
            "p_angry": (0, 0.25, 1, None)[number % 4],
            "tags": ["bug"] if number in (0, 41) else ["refund"] if number % 3 else [],
        }
        for number in range(60)
    ]
    write_file(tmp_path / "t.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    recipe = {
        "name": "tickets",
        "task": {"name": "tickets", "questions": QUESTIONS},
        "data": {
            "source": str(tmp_path / "t.jsonl"),
            "text": "{title}: {body}",
            "answers": {"angry": {"yes": "p_angry"}},
            "validation_rows": 10,
            "test_rows": None,
        },
        "backbone": {"model": str(tiny_llama), "max_prompt_tokens": 400},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def test_each_decision_has_its_own_prompt(recipe_path: Path) -> None:
    recipe = load_recipe(str(recipe_path))
    shown = inspect_questions(recipe, 1)
    assert [one.title for one in shown.decisions] == ["team", "angry", "tags: refund", "tags: bug"]
    tokenizer = load_tokenizer(find_model(recipe.backbone))
    for decision, one in zip(recipe.task.decisions, shown.decisions, strict=True):
        own = recipe.model_copy(update={"task": recipe.task.of_decision(decision)})
        template = tokenizer.template(own)
        assert one.prompt == template.tokenizer.decode(template.encode([shown.text])[0].ids)
        assert decision.prompt in one.prompt
        assert list(one.answer_tokens) == list(decision.labels)
    assert 0 < shown.shared_tokens < min(one.prompt_tokens for one in shown.decisions)
    assert shown.splits == {"train": 50, "validation": 10}
    counts = shown.answers["train"]["angry"]
    assert sum(counts.values()) == 50
    assert counts["(missing)"] > 0
    assert shown.warnings[0].startswith("Question tags: fewer than 10 training rows have the answer bug (yes) ")


def test_soft_and_missing_answers(recipe_path: Path) -> None:
    recipe = load_recipe(str(recipe_path), ["data.validation_rows=null"])
    # In the order of the source: certain, a share, certain, missing.
    angry = [inspect_questions(recipe, row).decisions[1] for row in range(4)]
    assert [(one.answer, one.shares) for one in angry] == [
        ("no", {}), (None, {"no": 0.75, "yes": 0.25}), ("yes", {}), (None, {}),
    ]  # fmt: skip


def test_the_command_prints_counts_and_prompts(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, whinchat: Whinchat
) -> None:
    monkeypatch.chdir(recipe_path.parent)
    shown = whinchat("inspect", "recipe.yaml").out
    assert "train: 50 rows" in shown
    assert "Does this apply: bug? Answer yes or no." in shown
    assert "tokens at the beginning are in all prompts" in shown
    content: dict[str, Any] = json.loads(whinchat("inspect", "recipe.yaml", "--row", "2", "--json").out)
    assert content == json.loads(json.dumps(inspect_questions(load_recipe("recipe.yaml"), 2).to_dict()))


def test_check_counts_the_answers_of_each_question(recipe_path: Path) -> None:
    found = check_recipe(str(recipe_path))
    assert not found.errors
    assert set(found.labels["train"]) == {
        "team: returns", "team: billing", "team: (missing)", "angry: no", "angry: yes", "angry: (missing)",
        "tags: refund: no", "tags: refund: yes", "tags: refund: (missing)",
        "tags: bug: no", "tags: bug: yes", "tags: bug: (missing)",
    }  # fmt: skip
    text = "\n".join(found.warnings)
    assert "bug (yes)" in text
    assert "(missing)" not in text
    # Texts of one team have doubled spaces.
    assert "100% of the training texts of team: billing and in 0% of the training texts of team: returns" in text


def test_an_example_with_labels_is_another_function(recipe_path: Path) -> None:
    with pytest.raises(RecipeError, match="use inspect_questions"):
        inspect_example(load_recipe(str(recipe_path)))
    with pytest.raises(RecipeError, match="use inspect_example"):
        inspect_questions(load_recipe("demo"))
