"""A mistake that can be mended: exit code 2, one error that says what, where and what to do, and nothing lost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_models
from tests.helpers.command_line import CommandResult, Whinchat
from whinchat.recipe.loader import recipe_to_yaml


def recipe_file(folder: Path, model: Path | str, source: Path | str) -> Path:
    path = folder / "mine.yaml"
    recipe = finished_runs.recipe_for(Path("unused"), Path("unused"))
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"model": str(model)}),
            "data": recipe.data.model_copy(update={"source": str(source)}),
        }
    )
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return finished_runs.write_csv(tmp_path / "texts.csv")


@pytest.fixture
def mine(tiny_llama: Path, source: Path, tmp_path: Path) -> Path:
    """A recipe that would run."""
    return recipe_file(tmp_path, tiny_llama, source)


@pytest.fixture
def fails(whinchat: Whinchat, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail as it should; its one message."""

    def call(*arguments: str | Path, given: bytes | None = None) -> str:
        before = snapshot(tmp_path)
        said = whinchat(*arguments, given=given)
        assert snapshot(tmp_path) == before
        return only_error(said)

    return call


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def only_error(said: CommandResult) -> str:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.count("error:") == 1
    assert "Traceback" not in said.err
    # Progress bars may come first; the error is the last thing said.
    return said.err[said.err.index("error:") :].removeprefix("error: ").rstrip("\n")


Fails = Callable[..., str]


def test_mistyped_key(fails: Fails, mine: Path) -> None:
    said = fails("run", mine, "--set", "train.learning_rat=1")
    assert said == f"{mine}: train.learning_rat: unknown key; did you mean learning_rate?"


def test_every_fault_of_a_recipe_at_once(fails: Fails, mine: Path) -> None:
    wrong = ["train.learning_rat=1", "adapter.r=0", "backbone.load_in=int3", "evaluate.rows=many", "colour=red"]
    said = fails("recipes", "check", mine, *[part for one in wrong for part in ("--set", one)])
    assert len(said.splitlines()) == 5
    for key in ("train.learning_rat", "adapter.r", "backbone.load_in", "evaluate.rows", "colour"):
        assert f"{mine}: {key}: " in said


def test_mistyped_section(fails: Fails, mine: Path) -> None:
    said = fails("inspect", mine, "--set", "trian.seed=1")
    assert said.endswith("trian: unknown key; did you mean train?")


def test_unknown_recipe(fails: Fails) -> None:
    said = fails("run", "demmo")
    assert said.startswith("demmo: neither a recipe file nor a shipped recipe; did you mean demo? Shipped: demo, ")


@pytest.mark.parametrize("override", ["train.seed", "=3", "train..seed=1", "train.seed.deep=1"])
def test_override_that_is_none(fails: Fails, mine: Path, override: str) -> None:
    assert fails("run", mine, "--set", override).startswith(f"--set {override}: ")


def test_label_not_in_the_task(fails: Fails, mine: Path, source: Path) -> None:
    source.write_text("text,label\na,good\nb,great\nc,bad\n", encoding="utf-8")
    said = fails("run", mine)
    assert "labels that are not in task.labels (bad, fine, good): 'great' (1 row, first" in said
    assert "texts.csv:3" in said
    assert "map each with data.label_map" in said


def test_empty_file(fails: Fails, mine: Path, source: Path) -> None:
    source.write_bytes(b"")
    assert fails("run", mine) == f"{source}: the file is empty; point data.source at one with rows"


def test_file_that_is_not_utf8(fails: Fails, mine: Path, source: Path) -> None:
    source.write_bytes("text,label\nfine,good\ncaf\u00e9,good\n".encode("latin-1"))
    said = fails("run", mine)
    assert said.startswith(f"{source}:3: byte 24 of the file (0xe9) is not UTF-8; convert the file")


def test_missing_column(fails: Fails, mine: Path, source: Path) -> None:
    source.write_text("texts,label\na,good\n", encoding="utf-8")
    said = fails("run", mine)
    assert f"{source}:1: no column 'text'; did you mean texts? Columns found: texts, label." in said
    assert said.endswith("Name the right one with data.text_column")


def test_source_that_is_not_there(fails: Fails, mine: Path, tmp_path: Path) -> None:
    said = fails("run", mine, "--set", f"data.source={tmp_path}/absent.csv")
    assert said.startswith(f"{tmp_path}/absent.csv: no such file or folder")


def test_no_chat_template(fails: Fails, source: Path, tmp_path: Path) -> None:
    model = tiny_models.make_mistral(tmp_path / "plain", template=None)
    said = fails("run", recipe_file(tmp_path, model, source))
    assert said.startswith(f"{model}: its tokenizer has no chat template")
    assert "choose an instruct or chat model" in said
    assert fails("inspect", tmp_path / "mine.yaml") == said


def test_target_modules_that_match_nothing(whinchat: Whinchat, mine: Path, tmp_path: Path) -> None:
    said = only_error(whinchat("train", mine, "--set", "adapter.target_modules=[q_prj]", "--out", tmp_path / "out"))
    assert said.startswith("adapter.target_modules: q_prj match no linear layer of LlamaForCausalLM; its linear layers")
    assert "q_proj" in said


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub whose name leads nowhere, and an empty cache, whatever this machine can reach."""
    import huggingface_hub.constants

    for module in (huggingface_hub.constants, __import__("huggingface_hub.hf_api", fromlist=["ENDPOINT"])):
        for name in ("ENDPOINT", "HF_ENDPOINT"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


@pytest.mark.usefixtures("no_hub")
def test_model_hub_out_of_reach(fails: Fails, source: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    said = fails("run", recipe_file(tmp_path, "TinyLlama/TinyLlama-1.1B-Chat-v1.0", source))
    assert time.monotonic() - started < 30
    assert said.startswith("TinyLlama/TinyLlama-1.1B-Chat-v1.0: the Hugging Face hub is out of reach")
    assert "`whinchat run demo` needs no hub" in said


@pytest.mark.usefixtures("no_hub")
def test_data_hub_out_of_reach(fails: Fails, tiny_llama: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    said = fails("run", recipe_file(tmp_path, tiny_llama, "hub:cardiffnlp/tweet_eval"))
    assert time.monotonic() - started < 30
    assert said.startswith("hub:cardiffnlp/tweet_eval: the hub cannot be reached")
    assert said.endswith("use a local folder with --set data.source=FOLDER, or the demo recipe")


@pytest.mark.parametrize("name", ["tinyllama-qlora", "lite-oute-dora", "smollm2-lora-tweeteval"])
@pytest.mark.usefixtures("no_hub")
def test_shipped_recipes_say_when_they_need_the_hub(fails: Fails, tmp_path: Path, name: str) -> None:
    assert "the hub cannot be reached" in fails("run", name, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_model_that_is_neither_folder_nor_name(fails: Fails, mine: Path) -> None:
    said = fails("run", mine, "--set", "backbone.model=./nowhere")
    assert said.startswith("backbone.model: ./nowhere is neither a folder nor OWNER/NAME on the hub")


def test_folder_that_is_no_model(fails: Fails, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = fails("run", mine, "--set", f"backbone.model={tmp_path / 'empty'}")
    assert said == f"{tmp_path / 'empty'}: no config.json, so this is no model folder; save one with save_pretrained"


def test_model_without_weights(fails: Fails, mine: Path, tiny_llama: Path, tmp_path: Path) -> None:
    torn = shutil.copytree(tiny_llama, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"nothing like weights")
    said = fails("run", mine, "--set", f"backbone.model={torn}")
    assert said.startswith(f"{torn}: cannot be loaded: ")


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_folder_in_the_way(fails: Fails, mine: Path, tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("miaow", encoding="utf-8")
    said = fails("run", mine, "--out", tmp_path / "photos", *option)
    assert said == f"{tmp_path / 'photos'}: already exists and is not a run folder; choose another with --out"


def test_file_in_the_way(fails: Fails, mine: Path, source: Path) -> None:
    assert fails("train", mine, "--out", source).endswith(
        "already exists and is not a run folder; choose another with --out"
    )


def test_run_in_the_way(fails: Fails, a_run: Path) -> None:
    said = fails("run", a_run, "--out", a_run)
    assert said == (
        f"{a_run}: already holds a run; continue it with --resume, replace it with --overwrite, or choose another "
        "folder with --out"
    )


def test_resume_with_another_recipe(fails: Fails, a_run: Path) -> None:
    changed = ["--set", "train.learning_rate=0.2", "--set", "adapter.r=2"]
    said = fails("run", a_run, "--out", a_run, "--resume", *changed)
    assert "holds a run of another recipe, so it cannot be resumed with this one" in said
    assert "different: adapter.r, train.learning_rate; use --overwrite or another --out" in said


@pytest.mark.parametrize("command", ["run", "train"])
def test_resume_and_overwrite(fails: Fails, mine: Path, command: str) -> None:
    said = fails(command, mine, "--resume", "--overwrite")
    assert said == "--resume and --overwrite: exclude each other; choose one"


@pytest.mark.parametrize("arguments", [["evaluate"], ["predict"], ["compare"]])
def test_what_is_no_run(fails: Fails, tmp_path: Path, arguments: list[str]) -> None:
    tail = ["a text"] if arguments == ["predict"] else []
    absent = tmp_path / "absent"
    assert fails(*arguments, absent, *tail).startswith(f"{absent}: no such run folder; make one with `whinchat run")
    absent.mkdir()
    said = fails(*arguments, absent, *tail)
    assert said.endswith("name a folder that `whinchat run` made")


def test_run_that_is_not_finished(fails: Fails, mine: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(mine, half / "recipe.yaml")
    for command in (["evaluate", half], ["predict", half, "a text"]):
        assert fails(*command) == f"{half}: has no adapter/, so this run is not finished; finish it with --resume"
    assert "missing, so this run is not finished; finish it with `whinchat run" in fails("compare", half)


@pytest.mark.parametrize("torn", ["torn", "gone"])
def test_run_whose_adapter_is_torn(fails: Fails, a_run: Path, tmp_path: Path, torn: str) -> None:
    folder = shutil.copytree(a_run, tmp_path / "run")
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.unlink()
    if torn == "torn":
        weights.write_bytes(b"torn")
    assert str(folder / "adapter") in fails("predict", folder, "a text")


def test_predict_without_texts(fails: Fails, a_run: Path) -> None:
    assert fails("predict", a_run, given=b"").startswith("predict: no texts; give them as arguments, or one a line")


def test_predict_from_input_that_is_not_utf8(fails: Fails, a_run: Path) -> None:
    said = fails("predict", a_run, given=b"one\ntwo \xff\n")
    assert said == "standard input:2: byte 8 is not UTF-8; convert the text to UTF-8"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.max_steps=0", "train.max_steps: 0 would train nothing; give a number of steps, or -1"),
        ("name=../elsewhere", "name: string should match pattern"),
        ("train.report_to=[abacus]", "train.report_to: abacus cannot be used"),
        ("train.lr_scheduler_type=sawtooth", "train.lr_scheduler_type: input should be 'linear'"),
    ],
)
def test_recipe_that_cannot_run(fails: Fails, mine: Path, tmp_path: Path, override: str, said: str) -> None:
    assert said in fails("run", mine, "--set", override, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pissa_with_more_vectors_than_a_layer_has(fails: Fails, mine: Path, tmp_path: Path) -> None:
    said = fails("run", mine, "--set", "adapter.init=pissa", "--set", "adapter.r=999", "--out", tmp_path / "run")
    assert said.startswith("adapter.r: pissa starts from 999 singular vectors, the smallest target layer has ")
    assert not (tmp_path / "run").exists()


def test_evaluate_takes_no_other_override(fails: Fails, a_run: Path) -> None:
    said = fails("evaluate", a_run, "--set", "train.seed=1")
    assert (
        said == "--set train.seed=1: an evaluation takes data.* and evaluate.* only; other keys take effect in training"
    )
    assert "data.text_colum: unknown key" in fails("evaluate", a_run, "--data", "x.csv", "--set", "data.text_colum=b")


def test_evaluate_on_a_file_that_does_not_fit(fails: Fails, a_run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("body,label\na,good\n", encoding="utf-8")
    assert "no column 'text'" in fails("evaluate", a_run, "--data", tmp_path / "other.csv")


def test_watching_a_split_that_is_not_there(fails: Fails, tiny_llama: Path, tmp_path: Path) -> None:
    finished_runs.write_csv(tmp_path / "train.csv")
    finished_runs.write_csv(tmp_path / "test.csv", seed=1)
    mine = recipe_file(tmp_path, tiny_llama, tmp_path)
    said = fails("run", mine, "--set", "data.validation_rows=null", "--set", "evaluate.split=test")
    assert said.startswith(f"{tmp_path}: has no validation split to score during training; set data.validation_rows")


def test_evaluating_a_split_that_is_not_there(fails: Fails, mine: Path, source: Path) -> None:
    said = fails("run", mine, "--set", "evaluate.split=test")
    assert said.startswith(f"{source}: has no test split (it has train, validation); set evaluate.split to one it has")


@pytest.mark.parametrize(
    ("override", "named"),
    [("train.save_steps=2.5", "save_steps"), ("train.eval_steps=1.5", "eval_steps"), ("train.optim=adam_w", "adam_w")],
)
def test_settings_that_transformers_refuses(fails: Fails, mine: Path, override: str, named: str) -> None:
    said = fails("run", mine, "--set", override)
    assert "train" in said
    assert named in said


def test_row_beyond_the_end(fails: Fails, mine: Path) -> None:
    assert re.fullmatch(
        r"--row 999: the training split has \d+ rows, numbered from 0", fails("inspect", mine, "--row", "999")
    )


def test_the_same_run_twice(fails: Fails, a_run: Path) -> None:
    assert fails("compare", a_run, a_run) == "compare: the same run is named twice; name each run once"


def test_brackets_in_a_message_are_kept(fails: Fails) -> None:
    assert fails("run", "[bold]no[/] :smile:").startswith("[bold]no[/] :smile:: neither a recipe file nor")
