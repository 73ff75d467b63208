"""YAML that people write, by mistake or with intent: one clear error, in bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whinchat.arena.spec import load_arena
from whinchat.data import packages
from whinchat.errors import DataError, RecipeError
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.recipe.yaml_reader import LONGEST_TEXT, read_yaml

SMALL = """name: small
task: {name: small, labels: [a, b], instruction: Say which.}
data: {source: folder}
backbone: {model: folder}
"""


def faults(tmp_path: Path, text: str | bytes, *overrides: str) -> list[str]:
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path), overrides)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_key_twice_is_refused_with_both_lines_beside_every_other_fault(tmp_path: Path) -> None:
    text = SMALL + "train:\n  seed: 1\n  sed: 2\ntrain: {class_weights: {a: 1, a: 2, b: 1}}\n"
    assert faults(tmp_path, text, "data.label_map={x: a, x: b}") == [
        "train occurs twice (lines 5 and 8); keep one of them",
        "train.class_weights.a occurs twice (both in line 8); keep one of them",
        "--set data.label_map={x: a, x: b}: data.label_map.x occurs twice (both in line 1); keep one of them",
    ]
    assert faults(tmp_path, SMALL + "train:\n  seed: 1\n  seed: 1\n  sed: 2\n") == [
        "train.seed occurs twice (lines 6 and 7); keep one of them",
        "train.sed: unknown key; did you mean seed?",
    ]
    # A number and the same number in quotes are the same key to a recipe.
    assert faults(tmp_path, SMALL.replace("folder}\nb", 'folder, label_map: {0: a, "0": b}}\nb')) == [
        'data.label_map: YAML reads the key 0 as a number, not as text; put it in quotes: "0"',
        "data.label_map.0 occurs twice (both in line 3); keep one of them",
    ]


def test_a_key_twice_in_an_arena_and_in_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "arena.yaml"
    text = "name: x\nrecipe: demo\nrows: [100]\nset_by_rows: {100: [train.seed=1]}\nmethods: [lora]\nrows: [100]\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"arena\.yaml: rows occurs twice \(lines 3 and 6\)"):
        load_arena(str(path))
    path.write_text(text.replace("rows: [100]\n", "", 1), encoding="utf-8")
    assert load_arena(str(path)).set_by_rows == {100: ("train.seed=1",)}
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "packages.yaml").write_text("a: {}\na: {}\n", encoding="utf-8")
    packages._catalog.cache_clear()
    monkeypatch.setattr(packages.resources, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"packages\.yaml: a occurs twice \(lines 1 and 2\)"):
        packages.catalog_entry("a")
    packages._catalog.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[a, b]", "[yes, No]", "task.labels.0: YAML reads yes as true or false, not as text"),
        ("[a, b]", "[yes, No]", "task.labels.1: YAML reads No as true or false, not as text"),
        ("[a, b]", "[a, ~]", "task.labels.1: YAML reads ~ as nothing, not as text"),
        ("[a, b]", "[a, 1.50]", "task.labels.1: YAML reads 1.50 as a number, not as text"),
        ("[a, b]", "[a, 2024-01-01]", "task.labels.1: YAML reads 2024-01-01 as a date, not as text"),
        ("[a, b]", "[a, .nan]", "task.labels.1: YAML reads .nan as a number, not as text"),
        ("name: small\nt", "name: 2024\nt", "name: YAML reads 2024 as a number, not as text"),
        ("{name", "{language: no, name", "task.language: YAML reads no as true or false, not as text"),
        ("{name", "{answers: {a: off}, name", "task.answers.a: YAML reads off as true or false, not as text"),
        ("{so", "{label_map: {on: a}, so", "data.label_map: YAML reads the key on as true or false, not as text"),
        ("{source", "{text_column: 0, source", "data.text_column: YAML reads 0 as a number, not as text"),
        ("{source", "{text_column: , source", 'data.text_column: has no value; write one, or "" for empty text'),
        ("name: small\nt", "1: x\nname: small\nt", "top level: YAML reads the key 1 as a number, not as text"),
        ("back", "train: {class_weights: {1: 2.0}}\nback", "train.class_weights: YAML reads the key 1 as a number"),
        ("back", "train: {learning_rate: yes}\nback", "train.learning_rate: input should be a number; found yes"),
        ("back", "train: {keep: off}\nback", "train.keep: input should be 'last' or 'best'; found off"),
        ("back", "train:\nback", "train: input should be a section, a mapping of keys to values; found nothing"),
        ("back", "train: [1]\nback", "train: input should be a section, a mapping of keys to values; found [1]"),
        ("[a, b]", "a", "task.labels: input should be a list; found 'a'"),
        ("[a, b]", "1", "task.labels: input should be a list; found 1"),
        ("{name", "{date: 20240101, name", "task.date: input should be a day such as 2026-01-31; found 20240101"),
        ("{name", "{date: 2024-02-30, name", "task.date: input should be a day such as 2026-01-31; found '2024-02-30'"),
    ],
)  # fmt: skip
def test_words_that_yaml_reads_as_something_else(tmp_path: Path, old: str, new: str, fault: str) -> None:
    found = next(line for line in faults(tmp_path, SMALL.replace(old, new, 1)) if line.startswith(fault))
    if "YAML reads" in fault:
        word = fault.removeprefix("top level: ").split(" as ")[0].split()[-1]
        assert found.endswith(f', not as text; put it in quotes: "{word}"')


def test_the_remedy_of_an_override_is_one_for_the_shell(tmp_path: Path) -> None:
    assert faults(tmp_path, SMALL, "data.text_column=0", "task.answers={a: no}") == [
        'task.answers.a: YAML reads no as true or false, not as text; put it in quotes: "no"',
        "data.text_column: YAML reads 0 as a number, not as text; put it in quotes: --set 'data.text_column=\"0\"'",
    ]
    # What an override replaces is no longer explained by the spelling in the file.
    assert faults(tmp_path, SMALL.replace("[a, b]", "[no, b]"), "task.labels=[a]")[0].startswith(
        "task.labels: tuple should have at least 2 items"
    )


def test_quoted_words_and_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    text = SMALL.replace("[a, b]", '["no", "1", 010, 1:30, 1e3, "null"]').replace("{name", "{date: 2024-02-29, name")
    path.write_text("\ufeff" + text + "train: {seed: 010, learning_rate: 3e-4}\n", encoding="utf-8")
    recipe = load_recipe(str(path))
    assert recipe.task.labels == ("no", "1", "010", "1:30", "1e3", "null")
    assert (recipe.train.seed, recipe.train.learning_rate) == (10, 3e-4), "YAML 1.1 would read 010 as 8"
    assert str(recipe.task.date) == "2024-02-29"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)

MERGES = "a: &a {x: 1}\n" + "".join(ALIASES.splitlines(keepends=True)[1:]).replace("[", "{<<: [").replace("]", "]}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "more than 100,000 values, counting what aliases repeat"),
        (MERGES, "more than 100,000 values, counting what aliases repeat"),
        ("a: &a [*a]", "more than 20 levels inside each other"),
        ("a: &a {<<: *a}", "more than 20 levels inside each other"),
        ("a: " + "[" * 100_000, "more than 20 levels inside each other"),
        ("{a: " * 100_000, "more than 20 levels inside each other"),
        ("- " * 100_000, "more than 20 levels inside each other"),
        ("a: " + "x" * LONGEST_TEXT, "has more than 500,000 characters"),
        ("a:\n\tb: 1", r"found character '\t' that cannot start any token in line 2, column 1"),
        (SMALL + "---\n" + SMALL, "expected a single document in the stream"),
        ("a: !!python/object/apply:os.system [ls]", "tags such as !!python/object/apply:os.system are not"),
        ("a: !!binary aGVsbG8=", "tags such as !!binary are not read; remove it, and put text in quotes"),
        ("a: !!int x", "tags such as !!int are not read"),
        ("a: !mine x", "tags such as !mine are not read"),
        ("? [a]\n: b", "a key must be text, not a list or a mapping"),
        ("<<: 3", "<< must name mappings"),
        ("a: *b", "found undefined alias"),
        ("name: a\0b", "unacceptable character #x0000"),
        (SMALL.encode("utf-16"), "not UTF-8 at byte 0; save the file as UTF-8"),
        ("", "holds nothing; a recipe is a mapping"),
        ("- a", "holds a list; a recipe is a mapping"),
        ("hello", "holds text; a recipe is a mapping"),
    ],
)  # fmt: skip
def test_hostile_files_end_in_one_line_soon(tmp_path: Path, text: str | bytes, message: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert message in fault
    assert len(fault) < 500


def test_hostile_keys_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, SMALL + '"a\\e[2J\\nb": 1\n')
    assert fault == r"a\x1b[2J\nb: unknown key."
    # Brackets in a key are no member of a union.
    text = SMALL + 'train: {class_weights: {"a[1]": x, int: 1}}\n'
    assert faults(tmp_path, text)[0].startswith("train.class_weights.a[1]: input should be a valid number")
    assert len(faults(tmp_path, SMALL + "".join(f"k{number}: 1\n" for number in range(200)))) == 51


def test_what_is_no_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.yaml", tmp_path / "zero.yaml"):
        with pytest.raises(RecipeError, match=r"\.yaml: is no regular file"):
            load_recipe(str(path))
    for name in ("a" * 5000, "~nobody-of-that-name/x", "a\0b"):
        with pytest.raises(RecipeError, match="neither a recipe file nor a shipped recipe"):
            load_recipe(name)


def test_anchors_and_merge_keys_are_written_out() -> None:
    text = "base: &base {model: m, load_in: float32}\nother: {<<: *base, load_in: nf4}\nlist: [*base]\n"
    text += "both: {<<: [{a: 1}, {a: 2, b: 2}]}"
    base = {"model": "m", "load_in": "float32"}
    assert read_yaml(text).values == {
        "base": base,
        "other": {"model": "m", "load_in": "nf4"},
        "list": [base],
        "both": {"a": 1, "b": 2},
    }


def test_half_a_character_in_a_key() -> None:
    with pytest.raises(RecipeError, match=r"reference\.settings: the key \? holds half a character"):
        load_recipe("demo", ['reference.settings={"\\ud83d": 1}'])


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(max_size=40), st.floats(), st.integers())
def test_every_recipe_that_is_taken_is_read_back_equal(label: str, text: str, rate: float, seed: int) -> None:
    content = {
        "name": "x",
        "task": {"name": "x", "labels": [label, "other label"], "instruction": f"x{text}", "answers": {label: "q"}},
        "data": {"source": "x", "text_column": text, "label_map": {text: label}},
        "backbone": {"model": "x"},
        "train": {"learning_rate": rate, "seed": seed},
    }
    try:
        recipe = Recipe.model_validate(content)
    except ValueError:
        return
    assert Recipe.model_validate(read_yaml(recipe_to_yaml(recipe)).values) == recipe


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        document = read_yaml(text)
    except RecipeError as fault:
        lines = [str(fault)]
    else:
        lines = list(document.faults)
    assert not any("\n" in line for line in lines)
