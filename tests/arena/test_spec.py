"""Arenas: the shipped ones, every fault at once, what each method makes of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.arenas import MakeSpec, jobs_of
from whinchat.arena.contestant_registry import contestant_kinds
from whinchat.arena.spec import ARENAS, PRESETS, arena_to_yaml, load_arena, resolve_arena
from whinchat.errors import RecipeError


def faults(path: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        resolve_arena(load_arena(str(path)))
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", ["few-labels", "learning-curve", "tweeteval-cost", "tweeteval-small", "vader-curve"])
def test_the_shipped_ones(name: str, tmp_path: Path) -> None:
    assert name in ARENAS.names()
    contest = resolve_arena(load_arena(name))
    assert (contest.spec.name, len(contest.spec.seeds)) == (name, 3)
    assert contest.spec.description
    (tmp_path / "arena.yaml").write_text(arena_to_yaml(contest.spec), encoding="utf-8")
    assert load_arena(str(tmp_path)) == contest.spec, "an arena's folder holds its arena"


def test_the_small_one_has_every_method_that_needs_neither_hub_nor_an_extra() -> None:
    others = {"bge-small", "setfit"}
    assert [method.name for method in load_arena("tweeteval-small").methods] == [
        name for name in PRESETS if name not in others
    ]
    assert {preset["kind"] for preset in PRESETS.values()} == set(contestant_kinds())


def test_every_fault_at_once(spec_file: MakeSpec) -> None:
    path = spec_file(
        rows=[0],
        sedes=[1],
        methods=["lorra", {"name": "mine", "kind": "addapter"}, {"name": "lora", "shots": 2}, {"name": "dora", "r": 3}],
    )
    found = faults(path)
    assert next(line.removeprefix(f"{path}: ") for line in found if "lorra" in line).startswith(
        "methods.0.name: 'lorra' is no method that comes with whinchat; did you mean lora? There are majority, "
    )
    unknown = "methods.1.kind: 'addapter' is no kind of contestant; did you mean adapter? There are majority, "
    assert any(unknown in line for line in found)
    assert f"{path}: methods.2.shots: only kind: prompting shows examples, this is adapter; leave it out" in found
    assert f"{path}: methods.3.r: unknown key." in found
    assert f"{path}: sedes: unknown key; did you mean seeds?" in found
    assert any("rows.0: input should be greater than or equal to 1; found 0" in line for line in found)
    assert len(found) == 6


def test_missing_and_repeated(spec_file: MakeSpec, tmp_path: Path) -> None:
    assert faults(spec_file(methods=["lora", "tfidf", "lora"])) == [
        f"{tmp_path / 'arena.yaml'}: methods: lora listed more than once; list each once"
    ]
    (tmp_path / "empty.yaml").write_text("name: x\n", encoding="utf-8")
    assert f"{tmp_path / 'empty.yaml'}: recipe: missing; every arena must set it" in faults(tmp_path / "empty.yaml")


def test_no_such_arena() -> None:
    with pytest.raises(RecipeError, match=r"neither an arena file nor a shipped arena; did you mean vader-curve\? Shi"):
        load_arena("vader-curv")
    with pytest.raises(RecipeError, match=r"gone\.yaml: no such file; `whinchat arena --list` lists the shipped ones"):
        load_arena("gone.yaml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "dmeo"}, "toy: recipe: dmeo: neither a recipe file nor a shipped recipe; did you mean demo"),
        ({"set": ["train.learning_rat=1"]}, "train.learning_rat: unknown key; did you mean learning_rate?"),
        (
            {"methods": [{"name": "lora", "set": ["adapter.r=0", "train.seed=5"]}]},
            "toy: methods: lora: ",
        ),
        (
            {"methods": [{"name": "lora", "set": ["data.test_rows=5"]}]},
            "data.*, evaluate.* and task.labels must be the same for all methods",
        ),
        (
            {"methods": [{"name": "lora", "set": ["train.seed=5"]}]},
            "every trial sets train.seed itself; list seeds under",
        ),
        ({"set": ["backbone.load_in=nf4"]}, "the recipe holds the model in nf4, which turns this into another method"),
        (
            {"methods": [{"name": "nf4-head", "kind": "head", "set": ["backbone.load_in=nf4"]}]},
            "kind: head does not train on nf4",
        ),
        (
            {"methods": ["full"], "set": ["train.memory_budget=8"]},
            "methods: full: kind: full trains weights beside an adapter, whose memory train.memory_budget does not",
        ),
        (
            {"methods": [{"name": "mine", "kind": "tfidf", "set": ["adapter.r=8", "train.class_weights=balanced"]}]},
            "toy: methods: mine: set: adapter.r would change nothing for kind tfidf; leave it out",
        ),
        ({"methods": [{"name": "majority", "set": ["train.learning_rate=1"]}]}, "nothing for kind majority"),
        ({"methods": [{"name": "minilm", "set": ["backbone.layers=1"]}]}, "would change nothing for kind embeddings"),
        (
            {"methods": [{"name": "zero-shot", "set": ["adapter.r=8"]}]},
            "adapter.r would change nothing for kind prompt",
        ),
        ({"methods": [{"name": "full", "set": ["adapter.r=8"]}]}, "adapter.r would change nothing for kind full"),
        (
            {"methods": [{"name": "dora", "kind": "head", "set": ["adapter.method=dora"]}]},
            "kind: head trains plain LoRA with a cross entropy, so it does not follow adapter.method=dora; add "
            "adapter.method=lora to its set",
        ),
        (
            {"set": ["train.loraplus_lr_ratio=8"], "methods": [{"name": "mine", "kind": "head"}]},
            "it does not follow train.loraplus_lr_ratio=8.0; add train.loraplus_lr_ratio=1 to its set",
        ),
        ({"methods": [{"name": ["lora"]}]}, "methods.0.name: input should be a valid string"),
        (
            {"set": ["train.keep=best", "train.eval_steps=1"]},
            "choose on the validation rows, on which the arena measures",
        ),
    ],
)
def test_what_would_not_be_fair_or_not_work(spec_file: MakeSpec, fields: dict[str, object], message: str) -> None:
    found = faults(spec_file(**fields))
    assert any(message in line for line in found), found


def test_a_whole_section_may_be_set(spec_file: MakeSpec) -> None:
    path = spec_file(methods=[{"name": "mine", "kind": "full", "set": ["train={learning_rate: 1e-4}"]}])
    assert {recipe.train.learning_rate for recipe in resolve_arena(load_arena(str(path))).recipes.values()} == {1e-4}


def test_a_shipped_method_keeps_its_encoder_where_the_file_says_null(spec_file: MakeSpec) -> None:
    methods = [{"name": name, "encoder": None} for name in ("bge-small", "minilm-lora")]
    bge, lora = load_arena(str(spec_file(methods=methods))).methods
    assert bge.encoder is not None
    assert bge.encoder.model == "BAAI/bge-small-en-v1.5"
    assert lora.encoder is not None
    assert lora.encoder.method == "lora"


def test_minilm_has_the_kind_of_other_embeddings(spec_file: MakeSpec) -> None:
    """Arenas and records of version 0.1.0 give it a kind of its own."""
    preset, old = load_arena(str(spec_file(methods=["minilm", {"name": "old", "kind": "minilm"}]))).methods
    assert (preset.kind, old.kind, preset.family) == ("embeddings", "embeddings", "simple")
    shorter = {"name": "minilm", "encoder": {"max_length": 64}}
    assert load_arena(str(spec_file(methods=[shorter]))).methods[0].encoder is not None


def test_what_the_methods_make_of_the_recipe(spec_file: MakeSpec) -> None:
    mine = {"name": "wide", "kind": "adapter", "set": ["adapter.r=8"]}
    path = spec_file(set=["train.loraplus_lr_ratio=4"], methods=[*PRESETS, mine])
    contest = resolve_arena(load_arena(str(path), ["train.num_train_epochs=2"]))
    by_name = {method: recipe for (method, rows), recipe in contest.recipes.items() if rows == contest.spec.rows[0]}
    assert {recipe.train.num_train_epochs for recipe in by_name.values()} == {2}
    assert (by_name["qdora"].adapter.method, by_name["qdora"].backbone.load_in) == ("dora", "nf4")
    assert (by_name["pissa"].adapter.init, by_name["rslora"].adapter.method) == ("pissa", "rslora")
    assert by_name["wide"].adapter.r == 8
    assert by_name["lora"].train.loraplus_lr_ratio == 4
    assert by_name["head-lora"].train.loraplus_lr_ratio == 1
    assert (by_name["full"].train.learning_rate, by_name["full"].train.loraplus_lr_ratio) == (5e-5, 1)
    assert next(one.shots for one in contest.spec.methods if one.name == "few-shot") == 4


def test_sizes_have_their_own_settings_unless_the_user_says_otherwise(spec_file: MakeSpec) -> None:
    path = spec_file(
        set=["train.num_train_epochs=1"],
        set_by_rows={20: ["train.num_train_epochs=5", "train.warmup_steps=2"]},
        methods=["lora", {"name": "slow", "kind": "adapter", "set": ["train.warmup_steps=7"]}],
    )

    def settings(*overrides: str) -> list[tuple[float, float]]:
        recipes = resolve_arena(load_arena(str(path), overrides)).recipes
        found = [recipes[key].train for key in (("lora", 20), ("lora", 40), ("slow", 20))]
        return [(train.num_train_epochs, train.warmup_steps) for train in found]

    assert settings() == [(5, 2), (1, 0.03), (5, 7)]
    assert settings("train.num_train_epochs=3") == [(3, 2), (3, 0.03), (3, 7)]
    jobs = jobs_of(path)[1]
    assert {job.recipe.train.num_train_epochs for trial, job in jobs.items() if trial.rows == 20} == {5}
    assert "set_by_rows: 30 not in rows" in faults(spec_file(set_by_rows={30: ["train.num_train_epochs=5"]}))[0]
    unfair = faults(spec_file(set_by_rows={20: ["evaluate.rows=5"]}))
    assert len(unfair) == 2, "one for each method"
    assert all("must be the same for all methods" in line for line in unfair)


def test_a_trial_for_whatever_makes_a_difference(spec_file: MakeSpec) -> None:
    _, jobs = jobs_of(spec_file(methods=["tfidf", "zero-shot", "few-shot"]))
    trials = [(trial.method, trial.rows, trial.seed) for trial in jobs]
    assert len([trial for trial in trials if trial[0] == "tfidf"]) == 6
    assert [trial for trial in trials if trial[0] == "zero-shot"] == [("zero-shot", 20, 1)]
    assert [trial for trial in trials if trial[0] == "few-shot"] == [("few-shot", 20, seed) for seed in (1, 2, 3)]
    assert all(job.recipe.train.seed == trial.seed for trial, job in jobs.items())
    assert trials == sorted(trials, key=lambda trial: trial[1]), "small training sets first"
