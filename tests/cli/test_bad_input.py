"""Errors that users can correct: exit code 2, one message that says what, where and what to do, and no file changed."""

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
def recipe_path(tiny_llama: Path, source: Path, tmp_path: Path) -> Path:
    """Return a recipe that can be run."""
    return recipe_file(tmp_path, tiny_llama, source)


@pytest.fixture
def fails(whinchat: Whinchat, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail and must change no file; return its error message."""

    def call(*arguments: str | Path, stdin: bytes | None = None) -> str:
        before = snapshot(tmp_path)
        result = whinchat(*arguments, stdin=stdin)
        assert snapshot(tmp_path) == before
        return only_error(result)

    return call


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def only_error(result: CommandResult) -> str:
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.count("error:") == 1
    assert "Traceback" not in result.err
    # Progress bars may come first; the error message comes last.
    return result.err[result.err.index("error:") :].removeprefix("error: ").rstrip("\n")


Fails = Callable[..., str]


def test_mistyped_key(fails: Fails, recipe_path: Path) -> None:
    message = fails("run", recipe_path, "--set", "train.learning_rat=1")
    assert message == f"{recipe_path}: train.learning_rat: unknown key; did you mean learning_rate?"


def test_every_fault_of_a_recipe_at_once(fails: Fails, recipe_path: Path) -> None:
    wrong = ["train.learning_rat=1", "adapter.r=0", "backbone.load_in=int3", "evaluate.rows=many", "colour=red"]
    message = fails("recipes", "check", recipe_path, *[part for override in wrong for part in ("--set", override)])
    assert len(message.splitlines()) == 5
    for key in ("train.learning_rat", "adapter.r", "backbone.load_in", "evaluate.rows", "colour"):
        assert f"{recipe_path}: {key}: " in message


def test_mistyped_section(fails: Fails, recipe_path: Path) -> None:
    message = fails("inspect", recipe_path, "--set", "trian.seed=1")
    assert message.endswith("trian: unknown key; did you mean train?")


def test_unknown_recipe(fails: Fails) -> None:
    message = fails("run", "demmo")
    assert message.startswith("demmo: neither a recipe file nor a shipped recipe; did you mean demo? Shipped: demo, ")


@pytest.mark.parametrize("override", ["train.seed", "=3", "train..seed=1", "train.seed.deep=1"])
def test_malformed_override(fails: Fails, recipe_path: Path, override: str) -> None:
    assert fails("run", recipe_path, "--set", override).startswith(f"--set {override}: ")


def test_label_not_in_the_task(fails: Fails, recipe_path: Path, source: Path) -> None:
    source.write_text("text,label\na,good\nb,great\nc,bad\n", encoding="utf-8")
    message = fails("run", recipe_path)
    assert "labels that are not in task.labels (bad, fine, good): 'great' (1 row, first" in message
    assert "texts.csv:3" in message
    assert "map each with data.label_map" in message


def test_empty_file(fails: Fails, recipe_path: Path, source: Path) -> None:
    source.write_bytes(b"")
    assert fails("run", recipe_path) == f"{source}: the file is empty; give one with a header and rows"


def test_file_that_is_not_utf8(fails: Fails, recipe_path: Path, source: Path) -> None:
    source.write_bytes("text,label\nfine,good\ncaf\u00e9,good\n".encode("latin-1"))
    message = fails("run", recipe_path)
    assert message.startswith(f"{source}:3: not UTF-8 (byte 0xe9); convert the file")


def test_missing_column(fails: Fails, recipe_path: Path, source: Path) -> None:
    source.write_text("texts,label\na,good\n", encoding="utf-8")
    message = fails("run", recipe_path)
    assert f"{source}: no column 'text'; did you mean texts? Columns found: texts, label." in message
    assert message.endswith("Name the right one with data.text_column")


def test_missing_source(fails: Fails, recipe_path: Path, tmp_path: Path) -> None:
    message = fails("run", recipe_path, "--set", f"data.source={tmp_path}/absent.csv")
    assert message.startswith(f"{tmp_path}/absent.csv: no such file or folder")


def test_no_chat_template(fails: Fails, source: Path, tmp_path: Path) -> None:
    model = tiny_models.make_mistral(tmp_path / "plain", template=None)
    message = fails("run", recipe_file(tmp_path, model, source))
    assert message.startswith(f"{model}: its tokenizer has no chat template")
    assert "choose an instruct or chat model" in message
    assert fails("inspect", tmp_path / "mine.yaml") == message


def test_target_modules_that_match_nothing(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    message = only_error(
        whinchat("train", recipe_path, "--set", "adapter.target_modules=[q_prj]", "--out", tmp_path / "out")
    )
    assert message.startswith(
        "adapter.target_modules: q_prj match no linear layer of LlamaForCausalLM; its linear layers"
    )
    assert "q_proj" in message


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the hub unreachable and its cache empty, whatever this machine can reach."""
    import huggingface_hub.constants

    for module in (huggingface_hub.constants, __import__("huggingface_hub.hf_api", fromlist=["ENDPOINT"])):
        for name in ("ENDPOINT", "HF_ENDPOINT"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


@pytest.mark.usefixtures("no_hub")
def test_model_hub_out_of_reach(fails: Fails, source: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    message = fails("run", recipe_file(tmp_path, "TinyLlama/TinyLlama-1.1B-Chat-v1.0", source))
    assert time.monotonic() - started < 30
    assert message.startswith("TinyLlama/TinyLlama-1.1B-Chat-v1.0: the Hugging Face hub is out of reach")
    assert "`whinchat run demo` needs no hub" in message


@pytest.mark.usefixtures("no_hub")
def test_data_hub_out_of_reach(fails: Fails, tiny_llama: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    message = fails("run", recipe_file(tmp_path, tiny_llama, "hub:cardiffnlp/tweet_eval"))
    assert time.monotonic() - started < 30
    assert message.startswith("hub:cardiffnlp/tweet_eval: the hub cannot be reached")
    assert message.endswith("use a local folder with --set data.source=FOLDER, or the demo recipe")


@pytest.mark.parametrize("name", ["tinyllama-qlora", "lite-oute-dora", "smollm2-lora-tweeteval"])
@pytest.mark.usefixtures("no_hub")
def test_shipped_recipes_say_when_they_need_the_hub(fails: Fails, tmp_path: Path, name: str) -> None:
    assert "the hub cannot be reached" in fails("run", name, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_model_that_is_neither_a_folder_nor_a_hub_name(fails: Fails, recipe_path: Path) -> None:
    message = fails("run", recipe_path, "--set", "backbone.model=./nowhere")
    assert message.startswith("backbone.model: ./nowhere is neither a folder nor OWNER/NAME on the hub")


def test_folder_without_a_model(fails: Fails, recipe_path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = fails("run", recipe_path, "--set", f"backbone.model={tmp_path / 'empty'}")
    assert message == f"{tmp_path / 'empty'}: no config.json, so this is no model folder; save one with save_pretrained"


def test_model_with_damaged_weights(fails: Fails, recipe_path: Path, tiny_llama: Path, tmp_path: Path) -> None:
    torn = shutil.copytree(tiny_llama, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"nothing like weights")
    message = fails("run", recipe_path, "--set", f"backbone.model={torn}")
    assert message.startswith(f"{torn}: cannot be loaded: ")


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_output_folder_holds_other_files(fails: Fails, recipe_path: Path, tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("miaow", encoding="utf-8")
    message = fails("run", recipe_path, "--out", tmp_path / "photos", *option)
    assert message == f"{tmp_path / 'photos'}: already exists and is not a run folder; choose another with --out"


def test_output_path_is_a_file(fails: Fails, recipe_path: Path, source: Path) -> None:
    assert fails("train", recipe_path, "--out", source).endswith(
        "already exists and is not a run folder; choose another with --out"
    )


def test_output_folder_holds_a_run(fails: Fails, a_run: Path) -> None:
    message = fails("run", a_run, "--out", a_run)
    assert message == (
        f"{a_run}: already holds a run; continue it with --resume, replace it with --overwrite, or choose another "
        "folder with --out"
    )


def test_resume_with_another_recipe(fails: Fails, a_run: Path) -> None:
    changed = ["--set", "train.learning_rate=0.2", "--set", "adapter.r=2"]
    message = fails("run", a_run, "--out", a_run, "--resume", *changed)
    assert "holds a run of another recipe, so it cannot be resumed with this one" in message
    assert "different: adapter.r, train.learning_rate; repeat the earlier ones, or use another --out" in message


@pytest.mark.parametrize("command", ["run", "train"])
def test_resume_and_overwrite(fails: Fails, recipe_path: Path, command: str) -> None:
    message = fails(command, recipe_path, "--resume", "--overwrite")
    assert message == "--resume and --overwrite: exclude each other; choose one"


@pytest.mark.parametrize("arguments", [["evaluate"], ["predict"], ["compare"]])
def test_folder_that_is_not_a_run(fails: Fails, tmp_path: Path, arguments: list[str]) -> None:
    tail = ["a text"] if arguments == ["predict"] else []
    absent = tmp_path / "absent"
    assert fails(*arguments, absent, *tail).startswith(f"{absent}: no such run folder; make one with `whinchat run")
    absent.mkdir()
    message = fails(*arguments, absent, *tail)
    assert message.endswith("name a folder that `whinchat run` made")


def test_run_that_is_not_finished(fails: Fails, recipe_path: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(recipe_path, half / "recipe.yaml")
    for command in (["evaluate", half], ["predict", half, "a text"]):
        assert fails(*command) == f"{half}: has no adapter/, so this run is not finished; finish it with --resume"
    assert "missing, so this run is not finished; finish it with `whinchat run" in fails("compare", half)


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_run_with_a_damaged_adapter(fails: Fails, a_run: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(a_run, tmp_path / "run")
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.unlink()
    if damage == "torn":
        weights.write_bytes(b"torn")
    assert str(folder / "adapter") in fails("predict", folder, "a text")


def test_predict_without_texts(fails: Fails, a_run: Path) -> None:
    assert fails("predict", a_run, stdin=b"").startswith("predict: no texts; give them as arguments, or one a line")


def test_predict_from_input_that_is_not_utf8(fails: Fails, a_run: Path) -> None:
    message = fails("predict", a_run, stdin=b"one\ntwo \xff\n")
    assert message == "standard input:2: byte 8 is not UTF-8; convert the text to UTF-8"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps=0", "train.max_steps: 0 would train nothing; give a number of steps, or -1"),
        ("name=../elsewhere", "name: string should match pattern"),
        ("train.report_to=[abacus]", "train.report_to: abacus cannot be used"),
        ("train.lr_scheduler_type=sawtooth", "train.lr_scheduler_type: input should be 'linear'"),
    ],
)
def test_recipe_that_cannot_run(fails: Fails, recipe_path: Path, tmp_path: Path, override: str, message: str) -> None:
    assert message in fails("run", recipe_path, "--set", override, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pissa_with_more_vectors_than_a_layer_has(fails: Fails, recipe_path: Path, tmp_path: Path) -> None:
    message = fails(
        "run", recipe_path, "--set", "adapter.init=pissa", "--set", "adapter.r=999", "--out", tmp_path / "run"
    )
    assert message.startswith("adapter.r: pissa starts from 999 singular vectors, the smallest target layer has ")
    assert not (tmp_path / "run").exists()


def test_evaluate_refuses_training_keys(fails: Fails, a_run: Path) -> None:
    message = fails("evaluate", a_run, "--set", "train.seed=1")
    assert (
        message
        == "--set train.seed=1: an evaluation takes data.* and evaluate.* only; other keys take effect in training"
    )
    assert "data.text_colum: unknown key" in fails("evaluate", a_run, "--data", "x.csv", "--set", "data.text_colum=b")


def test_evaluate_on_a_file_that_does_not_fit(fails: Fails, a_run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("body,label\na,good\n", encoding="utf-8")
    assert "no column 'text'" in fails("evaluate", a_run, "--data", tmp_path / "other.csv")


def test_scoring_during_training_without_a_validation_split(fails: Fails, tiny_llama: Path, tmp_path: Path) -> None:
    finished_runs.write_csv(tmp_path / "train.csv")
    finished_runs.write_csv(tmp_path / "test.csv", seed=1)
    recipe_path = recipe_file(tmp_path, tiny_llama, tmp_path)
    message = fails("run", recipe_path, "--set", "data.validation_rows=null", "--set", "evaluate.split=test")
    assert message.startswith(f"{tmp_path}: has no validation split to score during training; set data.validation_rows")


def test_evaluating_a_missing_split(fails: Fails, recipe_path: Path, source: Path) -> None:
    message = fails("run", recipe_path, "--set", "evaluate.split=test")
    assert message.startswith(
        f"{source}: has no test split (it has train, validation); set evaluate.split to one it has"
    )


@pytest.mark.parametrize(
    ("override", "named"),
    [("train.save_steps=2.5", "save_steps"), ("train.eval_steps=1.5", "eval_steps"), ("train.optim=adam_w", "adam_w")],
)
def test_settings_that_transformers_refuses(fails: Fails, recipe_path: Path, override: str, named: str) -> None:
    message = fails("run", recipe_path, "--set", override)
    assert "train" in message
    assert named in message


def test_row_beyond_the_end(fails: Fails, recipe_path: Path) -> None:
    assert re.fullmatch(
        r"--row 999: the training split has \d+ rows, numbered from 0", fails("inspect", recipe_path, "--row", "999")
    )


def test_the_same_run_twice(fails: Fails, a_run: Path) -> None:
    assert fails("compare", a_run, a_run) == "compare: the same run is named twice; name each run once"


def test_brackets_in_a_message_are_kept(fails: Fails) -> None:
    assert fails("run", "[bold]no[/] :smile:").startswith("[bold]no[/] :smile:: neither a recipe file nor")
