"""Device plans, loading a backbone, and its output layer."""

from __future__ import annotations

import json
import platform
import re
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers import hub_server, plain_forward, tiny_models
from whinchat.errors import ModelError
from whinchat.models.adapters import attach_adapter
from whinchat.models.backbone import find_model
from whinchat.models.device import Machine, installed_versions, plan_device
from whinchat.models.lm_head import FloatHead, read_logits
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig

OLD_CPU = Machine((), fast_bfloat16=False, fast_float16=False)
NEW_CPU = Machine((), fast_bfloat16=True, fast_float16=False)
GPU = Machine(("cuda",), fast_bfloat16=True, fast_float16=True)
OLD_GPU = Machine(("cuda",), fast_bfloat16=False, fast_float16=True)
MAC = Machine(("mps",), fast_bfloat16=True, fast_float16=True)


@pytest.mark.parametrize(
    ("machine", "asked", "planned"),
    [
        # machine, what the recipe says -> device, load_in, compute_dtype, attention
        (OLD_CPU, {}, ("cpu", "float32", "float32", "eager")),
        (NEW_CPU, {}, ("cpu", "bfloat16", "bfloat16", "eager")),
        (GPU, {}, ("cuda", "bfloat16", "bfloat16", "sdpa")),
        (OLD_GPU, {}, ("cuda", "float16", "float16", "sdpa")),
        (MAC, {}, ("mps", "bfloat16", "bfloat16", "sdpa")),
        (GPU, {"device": "cpu"}, ("cpu", "bfloat16", "bfloat16", "eager")),
        (NEW_CPU, {"load_in": "float32"}, ("cpu", "float32", "float32", "eager")),
        (NEW_CPU, {"load_in": "float32", "compute_dtype": "bfloat16"}, ("cpu", "float32", "bfloat16", "eager")),
        (OLD_CPU, {"load_in": "nf4"}, ("cpu", "nf4", "float32", "eager")),
        (NEW_CPU, {"load_in": "nf4"}, ("cpu", "nf4", "bfloat16", "eager")),
        (GPU, {"load_in": "nf4", "compute_dtype": "float16"}, ("cuda", "nf4", "float16", "sdpa")),
        (OLD_GPU, {"load_in": "nf4"}, ("cuda", "nf4", "float16", "sdpa")),
        (OLD_GPU, {"load_in": "nf4", "compute_dtype": "float16"}, ("cuda", "nf4", "float16", "sdpa")),
        (NEW_CPU, {"load_in": "nf4", "compute_dtype": "float16"}, ("cpu", "nf4", "bfloat16", "eager")),
        (OLD_CPU, {"load_in": "nf4", "compute_dtype": "float16"}, ("cpu", "nf4", "float32", "eager")),
        (NEW_CPU, {"load_in": "float16"}, ("cpu", "bfloat16", "bfloat16", "eager")),
        (OLD_CPU, {"load_in": "float16"}, ("cpu", "float32", "float32", "eager")),
        (NEW_CPU, {"attn_implementation": "sdpa"}, ("cpu", "bfloat16", "bfloat16", "sdpa")),
        (GPU, {"attn_implementation": "eager"}, ("cuda", "bfloat16", "bfloat16", "eager")),
    ],
)
def test_plans(machine: Machine, asked: dict[str, Any], planned: tuple[str, ...]) -> None:
    plan = plan_device(BackboneConfig(model="any", **asked), machine)
    assert (plan.device, plan.load_in, plan.compute_dtype, plan.attn_implementation) == planned
    swapped = "float16" in asked.values() and plan.compute_dtype != "float16"
    assert bool(plan.notes) is swapped
    if swapped:
        assert plan.notes[0] == f"float16 products are emulated on this cpu; {plan.compute_dtype} is used instead"


def test_plans_that_cannot_be_met() -> None:
    with pytest.raises(ModelError, match=r"device: this machine has no cuda, only cpu; set backbone\.device=auto"):
        plan_device(BackboneConfig(model="any", device="cuda"), NEW_CPU)
    with pytest.raises(ModelError, match="nf4 needs bitsandbytes, which has no kernels for mps"):
        plan_device(BackboneConfig(model="any", load_in="nf4"), MAC)


@pytest.fixture
def _tf32() -> Iterator[None]:
    """Rounded float32 products; monkeypatch cannot restore this setting of torch."""
    before, torch.backends.cuda.matmul.fp32_precision = torch.backends.cuda.matmul.fp32_precision, "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.usefixtures("_tf32")
def test_rounded_float32_products_are_named() -> None:
    exact = {"load_in": "float32"}
    assert "TF32" in plan_device(BackboneConfig(model="any", **exact), GPU).notes[0]
    assert plan_device(BackboneConfig(model="any"), GPU).notes == (), "no float32 products"
    assert plan_device(BackboneConfig(model="any", **exact), OLD_CPU).notes == ()


def test_versions_of_what_is_installed() -> None:
    found = installed_versions(("torch", "no-such-package"))
    assert found == {"python": platform.python_version(), "torch": version("torch")}


def test_loads_frozen_and_as_planned(any_model: Path) -> None:
    exact = tiny_models.load(any_model)
    assert not exact.model.training
    assert not any(weight.requires_grad for weight in exact.model.parameters())
    assert {weight.dtype for weight in exact.model.parameters()} == {torch.float32}
    assert tiny_models.load(any_model, attn_implementation="sdpa").model.config._attn_implementation == "sdpa"
    narrow = tiny_models.load(any_model, load_in="bfloat16")
    assert {weight.dtype for weight in narrow.model.parameters()} == {torch.bfloat16}
    assert isinstance(narrow.model.get_output_embeddings(), FloatHead)
    reference = plain_forward.plain_base(any_model)
    for name, weight in exact.model.state_dict().items():
        assert torch.equal(weight, reference.state_dict()[name])


def test_end_ids_come_from_tokenizer_and_generation_config(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [7, 9]}), encoding="utf-8")
    assert tiny_models.load(folder).tokenizer.end_ids == {2, 7, 9}
    assert tiny_models.load(tiny_llama).tokenizer.end_ids == {2}
    (folder / "generation_config.json").unlink()
    assert tiny_models.load(folder).tokenizer.end_ids == {2}


def test_a_folder_is_pinned_by_what_it_holds(tiny_llama: Path, tmp_path: Path) -> None:
    source = find_model(BackboneConfig(model=str(tiny_llama)))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_llama, copy)
    same = find_model(BackboneConfig(model=str(copy)))
    assert source.commit == same.commit
    assert len(source.commit or "") == 64
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert find_model(BackboneConfig(model=str(copy))).commit != source.commit


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model-q8_0.gguf",
        "tokenizer.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
    ],
)
def test_a_folder_is_pinned_by_every_file_that_matters(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_llama, copy)

    def commit() -> str | None:
        return find_model(BackboneConfig(model=str(copy))).commit

    (copy / name).write_bytes(b"{}")
    first = commit()
    (copy / name).write_bytes(b"[]")
    assert commit() != first
    (copy / "README.md").write_text("Words about the model change nothing.", encoding="utf-8")
    (copy / ".cache").mkdir()
    (copy / name).write_bytes(b"{}")
    assert commit() == first


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "neither a folder nor OWNER/NAME on the hub; offline, package:smollm2-135m-instruct works"),
        ("/nowhere/at/all", "neither a folder nor OWNER/NAME on the hub"),
        ("gpt2", "neither a folder nor OWNER/NAME on the hub"),
    ],
)
def test_names_that_are_no_model(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_model(BackboneConfig(model=model))


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json, so this is no model folder; save one with save_pretrained"):
        tiny_models.load(tmp_path)


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_folder_is_one_clear_line(tiny_mistral: Path, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_mistral, folder)
    (folder / broken).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded: ") as caught:
        tiny_models.load(folder)
    assert "\n" not in str(caught.value)


def test_hub_out_of_reach_is_one_line_and_quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nothing listens there: a real refused connection, whether or not this machine has the hub.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        find_model(BackboneConfig(model="TinyLlama/TinyLlama-1.1B-Chat-v1.0"))
    assert time.perf_counter() - started < 15
    message = str(caught.value)
    assert message.startswith("TinyLlama/TinyLlama-1.1B-Chat-v1.0: the Hugging Face hub is out of reach")
    assert "`whinchat run demo` needs no hub" in message
    assert "\n" not in message


def test_a_model_that_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with hub_server.serve() as hub:
        hub_server.in_this_process(hub, tmp_path, monkeypatch)
        with pytest.raises(ModelError) as caught:
            find_model(BackboneConfig(model="someone/nothing"))
    message = str(caught.value)
    assert re.match(r"someone/nothing: the hub does not serve this model \(.*\), and here is no such folder", message)
    assert message.endswith("log in with `hf auth login` if the model is private or gated")
    assert "\n" not in message


def test_float_head_is_a_float32_product_under_autocast() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 50, bias=True, dtype=torch.bfloat16)
    head = FloatHead(linear)
    hidden = torch.randn(3, 32, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(hidden)
        rounded = linear(hidden)
    wanted = hidden.double() @ linear.weight.double().T + linear.bias.double()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    assert (rounded.double() - wanted).abs().max() > 1e-3, "bfloat16 would have done as well"


@pytest.mark.parametrize("rows", [1, 5])
def test_float_head_on_bfloat16_loses_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("whinchat.models.lm_head._CHUNK_ROWS", 7)
    linear = torch.nn.Linear(64, 30, bias=False).to(torch.bfloat16).requires_grad_(False)
    head = FloatHead(linear)
    hidden = torch.randn(rows, 2, 64).to(torch.bfloat16).requires_grad_()
    before = torch.backends.mkldnn.matmul.fp32_precision
    found = head(hidden)
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    wanted = hidden.float() @ linear.weight.float().T
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    ours, exact = (torch.autograd.grad(one.square().sum(), hidden)[0] for one in (found, wanted))
    torch.testing.assert_close(ours, exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("narrow", [True, False])
def test_logits_of_a_few_tokens(narrow: bool) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 30).to(torch.bfloat16 if narrow else torch.float32).requires_grad_(False)
    head = FloatHead(linear) if narrow else linear
    hidden = torch.randn(5, 2, 64).to(linear.weight.dtype).requires_grad_()
    tokens = (7, 0, 29)
    found, wanted = read_logits(head, hidden, tokens), head(hidden)[..., list(tokens)]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read_logits(torch.nn.Sequential(head), hidden, tokens), wanted)
    ours, exact = (torch.autograd.grad(one.square().sum(), hidden)[0] for one in (found, wanted))
    torch.testing.assert_close(ours, exact, rtol=2e-2, atol=2e-2)


def test_float_head_keeps_tied_weights_tied(tmp_path: Path, tiny_llama: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "tied")
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "tied")
    backbone = tiny_models.load(tmp_path / "tied", load_in="bfloat16")
    head = backbone.model.get_output_embeddings()
    assert isinstance(head, FloatHead)
    assert head.weight.data_ptr() == backbone.model.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize(
    "method", [{"method": "lora"}, {"method": "dora"}, {"init": "pissa"}], ids=["lora", "dora", "pissa"]
)
def test_nf4_survives_an_evaluation_before_training(
    tiny_llama_wide: Path, method: dict[str, Any], double_quant: bool
) -> None:
    """bitsandbytes repacks weights in place at the first forward pass without gradients, on CPUs with AVX512-BF16.

    A run evaluates, attaches, trains, and evaluates again: start, gradients and scores must not notice.
    """
    ids = torch.tensor(
        [tiny_models.template_of(tiny_models.load(tiny_llama_wide)).encode([tiny_models.TEXTS[0]])[0].ids]
    )
    results = []
    for evaluate_first in (False, True):
        backbone = tiny_models.load(tiny_llama_wide, load_in="nf4", compute_dtype="float32", double_quant=double_quant)
        if evaluate_first:
            with torch.inference_mode():
                backbone.model(input_ids=ids)
        tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8, **method), seed=1)
        if evaluate_first:
            with torch.inference_mode():
                tuned.eval()(input_ids=ids)
        tiny_models.stir(tuned)
        tuned.train()
        output = tuned(input_ids=ids, labels=ids)
        results.append((output.logits.detach(), plain_forward.gradients(tuned, output.loss)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=0)
    plain_forward.assert_same_gradients(results[0][1], results[1][1], tolerance=1e-7)
