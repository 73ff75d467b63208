"""Typed questions in a recipe: what is read, what is refused, and the prompts that they become."""

from typing import Any

import pytest
import yaml

from whinchat.errors import RecipeError
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe

RAW: dict[str, Any] = {
    "name": "tickets",
    "task": {
        "name": "tickets",
        "questions": {
            "team": {
                "type": "choice",
                "instructions": "Which team?",
                "options": {"returns": "Refunds and damage", "billing": None},
            },
            "angry": {"type": "yes_no", "instructions": "Is the customer angry?"},
            "urgency": {"type": "score", "instructions": "How urgent?", "levels": ["routine", "soon", "today"]},
            "tags": {"type": "multi", "instructions": "Which apply?", "options": ["refund", "bug"]},
        },
    },
    "data": {"source": "tickets.csv", "text": "{title}\n\n{body}"},
    "backbone": {"model": "a/model"},
}


def _with(path: str, value: object) -> dict[str, Any]:
    def replaced(node: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        inner = value if len(keys) == 1 else replaced(node.get(keys[0], {}), keys[1:])
        return node | {keys[0]: inner}

    return replaced(RAW, path.split("."))


def test_questions_become_decisions_with_prompts_of_their_own() -> None:
    task = Recipe.model_validate(RAW).task
    assert [one.title for one in task.decisions] == ["team", "angry", "urgency", "tags: refund", "tags: bug"]
    prompts = [task.of_decision(one).user_template for one in task.decisions]
    assert prompts == [
        "{text}\n\nWhich team?\nAnswer with one of these:\n- returns: Refunds and damage\n- billing",
        "{text}\n\nIs the customer angry?\nAnswer yes or no.",
        "{text}\n\nHow urgent?\nAnswer with one of these levels, from lowest to highest: routine, soon, today.",
        "{text}\n\nWhich apply?\nDoes this apply: refund? Answer yes or no.",
        "{text}\n\nWhich apply?\nDoes this apply: bug? Answer yes or no.",
    ]
    assert [task.of_decision(one).labels for one in task.decisions[1:4]] == [
        ("no", "yes"),
        ("routine", "soon", "today"),
        ("no", "yes"),
    ]


def test_questions_are_trained_by_choice_and_read_back_from_yaml(tmp_path: Any) -> None:
    recipe = Recipe.model_validate(RAW)
    assert recipe.train.loss == "choice"
    assert not recipe.evaluate.generate
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    assert load_recipe(str(tmp_path)) == recipe


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("task.labels", ["a", "b"], "labels with their answers, or questions"),
        ("task.user_template", "{text}", "must contain {text} and {question} exactly once"),
        ("task.questions.team.options", ["a"], "2 to 255 options, found 1"),
        ("task.questions.team.options", ["a", "a"], "a listed more than once"),
        ("task.questions.urgency.levels", [1, 2, 3], "urgency.levels: names are text; put numbers"),
        ("task.questions.team.options", [True, False], "in quotes"),
        ("task.questions.team.levels", ["a", "b"], "only a score question has levels"),
        ("task.questions.team.options", ["Yes", "yes"], "share an answer word"),
        ("task.questions.team.instructions", "Of {text}?", "holds {text}"),
        ("task.questions.team.near_levels", "squared", "only the levels of a score question have distances"),
        ("task.questions.team.class_weights", {"returns": 1}, "must name each of returns, billing once"),
        ("task.questions.angry.options", ["yes", "maybe"], "has yes and no, found maybe"),
        ("task.questions.urgency.levels", list("abcdefghijk"), "2 to 10 levels, found 11"),
        ("task.questions.urgency.options", ["a", "b"], "has levels instead"),
        ("task.questions.tags.answers", {"bug": "b"}, "answered by yes or no"),
        ("task.questions.tags.type", "several", "'choice', 'yes_no', 'score' or 'multi'"),
        ("task.questions.a/b", {"type": "yes_no", "instructions": "?"}, "match pattern"),
        ("task.questions.Team", {"type": "yes_no", "instructions": "?"}, "team named more than once"),
        ("data.label_column", "queue", "a recipe with questions has data.answers"),
        ("data.answers", {"tean": "queue"}, "tean is no question; did you mean team?"),
        ("data.answers", {"team": {"returns": "a"}}, "has no column for billing"),
        ("data.answers", {"team": {"sales": "a"}}, "sales not among returns, billing"),
        ("data.answer_map", {"team": {"R": "return"}}, "return not among returns, billing"),
        ("data.text", "no column", "must name columns in braces"),
        ("data.text", "{title", "found '{title'"),
        ("data.text", "{title!r}", "must name columns in braces"),
        ("data.text_column", "body", "makes the text of several columns"),
        ("train.loss", "completion", "questions are trained by choice"),
        ("train.class_weights", {"returns": 1.0, "billing": 2.0}, "give each question class_weights of its own"),
        ("evaluate.generate", True, "answered by scores only"),
        ("reference", {"title": "A paper", "before_macro_f1": 0.1, "after_macro_f1": 0.2}, "of a task with labels"),
    ],
)
def test_what_does_not_fit_is_refused(path: str, value: object, message: str, tmp_path: Any) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_with(path, value), sort_keys=False))
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(tmp_path))
    assert message in str(caught.value)


def test_answers_without_questions_are_refused() -> None:
    raw = RAW | {"task": {"name": "t", "labels": ["a", "b"], "instruction": "?"}}
    with pytest.raises(ValueError, match=r"belong to task\.questions"):
        Recipe.model_validate(raw | {"data": {"source": "x.csv", "answers": {"team": "a"}}})
