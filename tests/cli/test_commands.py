"""What each command prints, as text and as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.helpers import finished_runs, tiny_models
from tests.helpers.command_line import Whinchat
from whinchat import __version__
from whinchat.recipe.loader import RECIPES, load_recipe, recipe_to_yaml
from whinchat.storage.run_folder import RunFolder

COMMANDS = (
    "arena", "run", "train", "review", "evaluate", "calibrate", "predict", "export", "serve", "inspect", "compare",
    "doctor", "layers", "distill", "push", "runs", "report", "recipes show", "recipes check", "init", "tune",
)  # fmt: skip
HEAVY = {"torch", "numpy", "transformers", "peft", "matplotlib", "pandas", "sklearn", "scipy", "pyarrow", "datasets"}

ODD_TEXTS = [
    "[bold]loud[/bold] and [red]",
    r"a \[backslash] and \ another",
    ":smile: is no emoji, 😀 is one",
    "",
    "日本語 é",
    "  blanks around  ",
    "<|user|> ends </s> nothing",
    "a, \"b\", 'c'; {d}",
]


LIGHT = ["--version", "--help", "run --help", "recipes list", "recipes check demo", "runs ."]


def test_light_commands_load_nothing_heavy() -> None:
    """In one process, one after the other: none may import what the next ones must not have."""
    script = (
        "import sys\n"
        "from whinchat.cli import main\n"
        f"for command in {LIGHT!r}:\n"
        "    sys.argv = ['whinchat', *command.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: code = end.code\n"
        f"    print('MODULES', command, code, *({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    found = [line.removeprefix("MODULES ") for line in done.stdout.splitlines() if line.startswith("MODULES")]
    assert found == [f"{command} 0" for command in LIGHT]


def test_python_m_runs_no_file_of_the_working_folder(tmp_path: Path) -> None:
    marker = tmp_path / "run"
    for name in ("yaml", "typer", "tarfile", "pydantic"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\n", encoding="utf-8")
    command = [sys.executable, "-m", "whinchat", "recipes", "check", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, marker.exists()) == (0, False), done.stderr


def test_commands_lists_every_command(whinchat: Whinchat) -> None:
    from whinchat.cli.app import app

    group = typer.main.get_command(app)
    assert set(group.commands) == {name.split()[0] for name in COMMANDS}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(whinchat: Whinchat, name: str) -> None:
    result = whinchat(*name.split(), "--help")
    assert result.code == 0
    assert f"whinchat {name}" in result.out.split("Example")[1]


def test_version(whinchat: Whinchat) -> None:
    assert whinchat("--version").out == f"whinchat {__version__}\n"


def test_recipes_list(whinchat: Whinchat) -> None:
    result = whinchat("recipes", "list")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == list(RECIPES.names())
    listed = json.loads(whinchat("recipes", "list", "--json").out)
    assert {recipe["name"]: recipe["description"] for recipe in listed}["tinyllama-qlora-as-published"].endswith(
        "(0.14 -> 0.51)"
    )


def test_recipes_show_prints_a_recipe(whinchat: Whinchat) -> None:
    result = whinchat("recipes", "show", "demo")
    assert result.out == f"{RECIPES.text('demo').rstrip()}\n"
    changed = whinchat("recipes", "show", "demo", "--set", "train.seed=7").out
    assert yaml.safe_load(changed)["train"]["seed"] == 7
    resolved = yaml.safe_load(whinchat("recipes", "show", "demo", "--resolved").out)
    assert resolved["train"]["optim"] == "adamw_torch_fused"
    assert resolved["data"].items() >= yaml.safe_load(result.out)["data"].items()


@pytest.mark.parametrize("name", RECIPES.names())
def test_recipes_check_accepts_every_shipped_recipe(whinchat: Whinchat, name: str) -> None:
    result = whinchat("recipes", "check", name)
    assert result.code == 0
    assert result.out.startswith(f"{name}: good")


@pytest.fixture
def recipe_path(tiny_mistral: Path, tmp_path: Path) -> Path:
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    path = tmp_path / "[recipe_path].yaml"
    path.write_text(recipe_to_yaml(finished_runs.recipe_for(tiny_mistral, source)), encoding="utf-8")
    return path


def test_brackets_in_a_path_are_printed_literally(whinchat: Whinchat, recipe_path: Path) -> None:
    assert whinchat("recipes", "check", recipe_path).out.startswith(f"{recipe_path}: good")


def test_inspect_supervises_the_answer_and_the_end_of_turn(
    whinchat: Whinchat, recipe_path: Path, tiny_mistral: Path
) -> None:
    result = whinchat("inspect", recipe_path, "--row", "3", "--json")
    assert result.code == 0
    example = json.loads(result.out)
    tokenizer = AutoTokenizer.from_pretrained(tiny_mistral)
    ids, supervised = example["input_ids"], example["supervised"]
    assert len(ids) == len(supervised) == len(example["tokens"])
    supervised_ids = [token for token, on in zip(ids, supervised, strict=True) if on]
    assert tokenizer.decode(supervised_ids) == f"{example['label']}<|im_end|>"
    assert supervised == sorted(supervised)
    prompt = tokenizer.decode(ids[: supervised.index(True)])
    assert prompt == (
        f"<|im_start|>system\n{tiny_models.INSTRUCTION}<|im_end|>\n<|im_start|>user\n{example['text']}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    text = whinchat("inspect", recipe_path, "--row", "3").out
    assert example["text"] in text
    assert f"label {example['label']}; {supervised.index(True)} tokens read, {len(supervised_ids)} supervised" in text


def test_predict_from_arguments(whinchat: Whinchat, a_run: Path) -> None:
    result = whinchat("predict", a_run, *ODD_TEXTS)
    assert result.code == 0
    for text in ODD_TEXTS:
        assert text in result.out
    assert whinchat("predict", a_run, "--", "--json").out.count("--json") == 1


def test_predict_keeps_the_texts_and_their_order(whinchat: Whinchat, a_run: Path) -> None:
    texts = [*ODD_TEXTS, *tiny_models.toy_rows(30)[0]]
    result = whinchat("predict", a_run, "--json", stdin="\n".join(texts).encode())
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        if not row["text"].strip():
            assert row["error"]
            continue
        assert list(row["probabilities"]) == list(tiny_models.ONE_TOKEN)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
    # A text gets the same answer alone and among other texts, from an argument and from standard input.
    alone = json.loads(whinchat("predict", a_run, texts[-1], "--json").out)
    assert alone["label"] == rows[-1]["label"]
    assert alone["probabilities"] == pytest.approx(rows[-1]["probabilities"], abs=1e-5)


def test_predict_splits_standard_input_at_line_feeds_only(whinchat: Whinchat, a_run: Path) -> None:
    result = whinchat("predict", a_run, "--json", stdin="one\r\n\r\nsplit\u2028not here\n".encode())
    assert [json.loads(line)["text"] for line in result.out.strip().split("\n")] == ["one", "", "split\u2028not here"]


def test_evaluate_a_run(whinchat: Whinchat, a_run: Path) -> None:
    after = json.loads((a_run / "after.json").read_text(encoding="utf-8"))
    evaluation = json.loads(whinchat("evaluate", a_run, "--json").out)
    for mode in ("score", "generate"):
        assert evaluation[mode]["confusion"] == after[mode]["confusion"]
        assert evaluation[mode]["macro_f1"] == after[mode]["macro_f1"]
    shown = whinchat("evaluate", a_run).out
    assert f"{after['score']['macro_f1']:.3f}" in shown
    assert f"{evaluation['decide']['macro_f1']:.3f}" in shown
    for part in ("free generation", "Each label, calibrated answers", "The calibrator was fitted on these rows"):
        assert part in shown


def test_calibrate_a_run(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    result = whinchat("calibrate", run, "--metric", "macro_recall", "--json")
    assert result.code == 0
    reliability = json.loads(result.out)
    assert reliability["metric"] == "macro_recall"
    assert reliability == json.loads((run / "trust.json").read_text(encoding="utf-8"))
    shown = whinchat("calibrate", run, "--wanted-accuracy", "0.5").out
    assert f"{reliability['decided']['macro_recall']:.3f}" in shown
    assert whinchat("calibrate", run, "--wanted-accuracy", "2").code == 2


def test_evaluate_on_other_data(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    texts, labels = tiny_models.toy_rows(30, seed=9)
    lines = [
        "body,label",
        *(f"{text},{tiny_models.ONE_TOKEN[label]}" for text, label in zip(texts, labels, strict=True)),
    ]
    (tmp_path / "other.csv").write_text("\n".join(lines), encoding="utf-8")
    result = whinchat("evaluate", a_run, "--data", tmp_path / "other.csv", "--set", "data.text_column=body", "--json")
    assert result.code == 0
    assert json.loads(result.out)["score"]["n"] == 30
    one_label = [line for line in lines if line.endswith((",label", ",good"))]
    (tmp_path / "other.csv").write_text("\n".join(one_label), encoding="utf-8")
    shown = whinchat("evaluate", a_run, "--data", tmp_path / "other.csv", "--set", "data.text_column=body").out
    assert f"{tmp_path / 'other.csv'}, {len(one_label) - 1} texts" in " ".join(shown.split())
    assert "train, " not in shown, "nothing was trained on these texts"
    assert f"bad and fine have no texts in {tmp_path / 'other.csv'}; macro-F1 and macro recall are averages" in shown


def test_run_prints_nothing_but_json(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "[odd] :run:"
    result = whinchat("run", recipe_path, "--out", out, "--set", "train.max_steps=4", "--json")
    assert result.code == 0
    assert json.loads(result.out)["after"] == json.loads((out / "after.json").read_text(encoding="utf-8"))
    again = whinchat("run", recipe_path, "--out", out, "--set", "train.max_steps=4", "--resume")
    assert again.code == 0
    assert f"Report: {out}/report.html" in again.out
    assert f"{out}: is finished, and stays as it is; --overwrite starts anew" in again.err
    other = whinchat("run", recipe_path, "--out", out, "--set", "train.max_steps=5", "--resume")
    assert other.code == 2
    assert (
        "holds a run of another recipe, so it cannot be resumed with this one; different: train.max_steps" in other.err
    )
    assert "stays as it is" not in other.err


def test_train_prints_the_path_of_the_adapter(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    result = whinchat("train", recipe_path, "--out", tmp_path / "[run]", "--set", "train.max_steps=2")
    assert result.out == f"Trained 2 steps; adapter in {tmp_path / '[run]'}/adapter\n"


def test_compare(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    # Copies, for their cards change.
    a_run, other = (shutil.copytree(a_run, tmp_path / name) for name in ("run", "[other]"))
    assert whinchat("compare", a_run, other, "--out", tmp_path / "figures", "--no-cards").code == 0
    assert not RunFolder(other).comparison.exists()
    result = whinchat("compare", a_run, other, "--out", tmp_path / "figures")
    assert result.code == 0
    assert "[other]" in result.out
    assert "## Comparison with other methods" in RunFolder(other).card.read_text(encoding="utf-8")
    after = load_after(a_run)
    assert result.out.count(f"{after:.3f}") >= 2
    assert (tmp_path / "figures" / "comparison.png").stat().st_size > 5000
    rows = json.loads(whinchat("compare", a_run, other, "--json").out)["rows"]
    assert [row["name"] for row in rows] == ["run", "[other]"]
    assert [row["after_macro_f1"] for row in rows] == [after, after]


def load_after(run: Path) -> float:
    return RunFolder(run).read().shipped.macro_f1


def test_doctor_takes_model_sizes_from_configurations(whinchat: Whinchat, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (2048, 5632, 22, 32, 4, 32000),
        load_recipe("demo").backbone.model: (576, 1536, 30, 9, 3, 49152),
    }

    def configured(model: str, revision: str | None, layers: int | None) -> LlamaForCausalLM | None:
        if model not in shapes:
            return None
        names = (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "vocab_size",
        )  # fmt: skip
        tied = model.startswith("package:")
        with torch.device("meta"):
            return LlamaForCausalLM(
                LlamaConfig(**dict(zip(names, shapes[model], strict=True)), tie_word_embeddings=tied)
            )

    monkeypatch.setattr("whinchat.models.training_memory.configured_model", configured)
    report = json.loads(whinchat("doctor", "--json").out)
    fits = {fit["recipe"]: fit for fit in report["recipes"]}
    assert fits["tinyllama-qlora"]["parameters"] == 1_100_048_384
    assert fits["tinyllama-qlora"]["needed_bytes"] > fits["demo"]["needed_bytes"] > 1e9
    assert fits["demo"]["fits"] == (fits["demo"]["needed_bytes"] < report["memory_free_bytes"])
    assert fits["lite-oute-dora"]["parameters"] is None
    assert fits["lite-oute-dora"]["needed_bytes"] is None
    assert fits["lite-oute-dora"]["fits"] is None
    assert "unknown: the model's configuration is not on this machine yet" in whinchat("doctor").out


def test_doctor(whinchat: Whinchat) -> None:
    report = json.loads(whinchat("doctor", "--json").out)
    assert report["cores"] >= 1
    assert report["memory_bytes"] > report["memory_free_bytes"] > 0
    assert report["four_bit"] is True
    assert {fit["recipe"] for fit in report["recipes"]} == set(RECIPES.names())
    fits = {fit["recipe"]: fit for fit in report["recipes"]}
    assert fits["demo"]["needs_hub"] is False
    assert fits["tinyllama-qlora"]["needs_hub"] is True
    assert fits["tinyllama-qlora"]["held_as"] == "nf4"
    shown = whinchat("doctor")
    assert shown.code == 0
    assert "tinyllama-qlora" in shown.out


def test_recipes_check_opens_the_data(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    good = json.loads(whinchat("recipes", "check", a_run, "--json").out)
    assert good["errors"] == []
    assert set(good["labels"]) == {"train", "validation"}
    wrong = ("--set", "data.source=nowhere.csv", "--set", "data.text_column=body")
    result = whinchat("recipes", "check", a_run, *wrong)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1].startswith("error: nowhere.csv: no such file or folder in ")
    listed = whinchat("recipes", "check", a_run, *wrong, "--json")
    assert (listed.code, len(json.loads(listed.out)["errors"])) == (2, 1)
    alone = whinchat("recipes", "check", a_run, *wrong, "--no-data")
    assert alone.code == 0
    assert "not checked: The data was not opened" in alone.out


def test_recipes_show_takes_a_run_folder(whinchat: Whinchat, a_run: Path) -> None:
    result = whinchat("recipes", "show", a_run)
    assert yaml.safe_load(result.out) == load_recipe(str(a_run)).model_dump(mode="json")


def test_ctrl_c_tells_how_to_continue(whinchat: Whinchat, recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from whinchat.pipelines import run as run_module

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "train_run", interrupted)
    result = whinchat("train", recipe_path)
    assert result.code == 130
    assert "the same command and --resume" in result.err
    assert "Traceback" not in result.err


def test_ctrl_c_does_not_name_resume_for_an_arena(
    whinchat: Whinchat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.arena import run_arena as arena_module

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arena_module, "run_arena", interrupted)
    result = whinchat("arena", "vader-curve", "--out", tmp_path / "arena")
    assert result.code == 130
    assert "the same command continues" in result.err
    assert "--resume" not in result.err
