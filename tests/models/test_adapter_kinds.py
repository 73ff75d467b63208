"""Adapters of every kind that PEFT has score and train exactly, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    C3AConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PeftType,
    RandLoraConfig,
    TrainableTokensConfig,
    VBLoRAConfig,
    VeraConfig,
    get_peft_model,
    tuners,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.models.adapter_kinds import read_adapter_config
from whinchat.models.adapters import adapter_layers, adapters_disabled, attach_adapter, load_adapter, save_adapter
from whinchat.models.forward import answer_logits
from whinchat.models.packed.packed_forward import is_packable
from whinchat.prompts.batching import collate
from whinchat.recipe.model_config import AdapterConfig

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NORMS = ["input_layernorm", "post_attention_layernorm", "norm"]


def lora(**fields: Any) -> LoraConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": LINEAR, **fields})


def on_linear(kind: Any, **fields: Any) -> Any:
    return kind(task_type="CAUSAL_LM", target_modules=LINEAR, **fields)


LORA = {
    "lora": lora(),
    "dora": lora(use_dora=True),
    "bias of B": lora(lora_bias=True),
    "patterns": lora(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}),
    "saved norm": lora(modules_to_save=["input_layernorm"]),
    "saved head": lora(modules_to_save=["lm_head"]),
    "saved embeddings": lora(modules_to_save=["embed_tokens"]),
    "tokens": lora(trainable_token_indices=[5, 6, 7, 300]),
    "head": lora(target_modules=[*LINEAR, "lm_head"]),
    "embeddings": lora(target_modules=[*LINEAR, "embed_tokens"]),
    "without some": lora(exclude_modules=["q_proj"]),
    "one layer": lora(layers_to_transform=[1]),
    "parameters": lora(target_modules=[], target_parameters=["q_proj.weight"]),
}
KINDS = {
    "ADALORA": on_linear(AdaLoraConfig, total_step=100, init_r=4, target_r=2),
    "ADAMSS": on_linear(tuners.AdamssConfig, r=8, num_subspaces=2),
    "BEFT": tuners.BeftConfig(task_type="CAUSAL_LM", target_modules=["v_proj"]),
    "BOFT": on_linear(BOFTConfig),
    "C3A": on_linear(C3AConfig, block_size=16),
    "DEFT": on_linear(tuners.DeftConfig, r=4),
    "DELORA": on_linear(tuners.DeloraConfig, r=4),
    "FOURIERFT": on_linear(FourierFTConfig, n_frequency=50),
    "FROD": on_linear(tuners.FrodConfig, progressbar=False),
    "GLORA": on_linear(tuners.GloraConfig, r=4),
    "GRALORA": on_linear(tuners.GraloraConfig, r=8),
    "HIRA": on_linear(tuners.HiraConfig, r=4),
    "HRA": on_linear(HRAConfig, r=4),
    "IA3": on_linear(IA3Config, feedforward_modules=["down_proj"]),
    "LN_TUNING": LNTuningConfig(task_type="CAUSAL_LM", target_modules=NORMS),
    "LOHA": on_linear(LoHaConfig, r=4),
    "LOKR": on_linear(LoKrConfig, r=4),
    "MISS": on_linear(tuners.MissConfig, r=4),
    "OFT": on_linear(OFTConfig, oft_block_size=4),
    "OSF": on_linear(tuners.OSFConfig, effective_rank=4),
    "PEANUT": on_linear(tuners.PeanutConfig, r=4),
    "PSOFT": on_linear(tuners.PsoftConfig, r=4),
    "PVERA": on_linear(tuners.PveraConfig, r=8),
    "RANDLORA": on_linear(RandLoraConfig, r=4, randlora_alpha=8),
    "ROAD": on_linear(tuners.RoadConfig, group_size=8),
    "SHIRA": on_linear(tuners.ShiraConfig, r=4, random_seed=1),
    "SUPERTUNING": on_linear(tuners.SupertuningConfig, sparsity=0.9),
    "TINYLORA": on_linear(tuners.TinyLoraConfig),
    "TRAINABLE_TOKENS": TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[5, 6, 7, 300]),
    "UNILORA": on_linear(tuners.UniLoraConfig, r=4),
    "VBLORA": on_linear(VBLoRAConfig, r=4, num_vectors=8, vector_length=8),
    "VERA": on_linear(VeraConfig, r=8),
    "WAVEFT": on_linear(tuners.WaveFTConfig, n_frequency=50),
}
# Virtual tokens, task ids, mixing of the batch's tokens, other forward passes: none of them can be disabled by layer.
REFUSED = {
    "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "LILY", "MULTITASK_PROMPT_TUNING", "POLY", "PREFIX_TUNING", "PROMPT_TUNING",
    "P_TUNING", "SHADOW", "XLORA",
}  # fmt: skip


def test_every_kind_of_peft_is_here() -> None:
    assert {kind.value for kind in PeftType} == {*KINDS, *REFUSED, "LORA"}


def saved_adapter(model: Path, config: Any, folder: Path) -> None:
    torch.manual_seed(3)
    tuned = get_peft_model(plain_forward.plain_base(model), config)
    tiny_models.stir(tuned)
    tuned.save_pretrained(str(folder))


def same_as_plain_passes(model: Path, folder: Path, **held: Any) -> bool:
    """Compare scores, gradients and the disabled adapter; return whether the model is packable."""
    backbone = tiny_models.load(model, **held)
    tuned = load_adapter(backbone.model, folder)
    bare = tiny_models.load(model, **held).model
    twin = PeftModel.from_pretrained(tiny_models.load(model, **held).model, str(folder), is_trainable=True).eval()
    engine = tiny_models.engine_of(backbone, tiny_models.BRANCHING, tuned)
    prompts = [prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS[:3])]
    tree, plan = engine.tree, engine.plan
    batch = collate(prompts, [tree.tokens] * len(prompts))

    def single(one: Any, answer: tuple[int, ...], ids: tuple[int, ...]) -> Tensor:
        logits: Tensor = one(input_ids=torch.tensor([[*ids, *answer]]), use_cache=False).logits[0]
        return logits[len(ids) - 1 :]

    with torch.inference_mode():
        found = answer_logits(tuned, plan, batch, tree, engine.read_prefix())
    effect = 0.0
    for row, ids in enumerate(prompts):
        for path in tree.paths:
            columns = [column for column, _ in path]
            answer = tuple(tree.tokens[column - 1] for column in columns[1:])
            with torch.no_grad():
                expected = single(twin, answer, ids)
                effect = max(effect, (expected - single(bare, answer, ids)).abs().max().item())
            torch.testing.assert_close(found[row, columns], expected, rtol=1e-4, atol=1e-4)
    assert effect > 0.05, "the adapter changes nothing, so comparing it proves nothing"

    with adapters_disabled(adapter_layers(tuned)), torch.no_grad():
        torch.testing.assert_close(single(tuned, (), prompts[0]), single(bare, (), prompts[0]), rtol=1e-5, atol=1e-5)
    trained = {name for name, weight in twin.named_parameters() if weight.requires_grad}
    for name, weight in tuned.named_parameters():
        weight.requires_grad_(name in trained)
    answer = next(tuple(token for _, token in path[:-1]) for path in tree.paths)
    draw = torch.randn(len(prompts), 1 + len(answer), bare.config.vocab_size)
    mine = answer_logits(tuned, plan, collate(prompts, [answer] * len(prompts)), None)
    theirs = torch.stack([single(twin, answer, ids) for ids in prompts])
    (mine * draw).sum().backward()
    (theirs * draw).sum().backward()
    wanted = {name: weight.grad for name, weight in twin.named_parameters() if name in trained}
    found_gradients = dict(tuned.named_parameters())
    for name, gradient in wanted.items():
        if gradient is None:
            assert found_gradients[name].grad is None, name
            continue
        error = (found_gradients[name].grad - gradient).abs().max().item()
        assert error <= 1e-4 * max(1.0, gradient.abs().max().item()), f"{name}: off by {error:.1e}"
    return is_packable(tuned, plan)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LORA)
def test_lora_in_all_its_forms(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    saved_adapter(tiny_llama, LORA[name], tmp_path)
    packable = same_as_plain_passes(tiny_llama, tmp_path)
    assert packable is (name in ("lora", "dora", "patterns", "without some", "one layer"))


# One of each way to adapt: a rank that changes, a factor for each feature, norms, tokens, products of small matrices, a
# rotation, the base's own weight in two parts, matrices that all layers share, a bias alone.
_QUICK = {"ADALORA", "IA3", "LN_TUNING", "TRAINABLE_TOKENS", "LOKR", "OFT", "OSF", "VERA", "VBLORA", "BEFT"}


def _kinds(quick: set[str]) -> list[Any]:
    """Return ``KINDS``; those that are not ``quick`` are marked slow."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in KINDS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _kinds(_QUICK))
def test_other_kinds(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    saved_adapter(tiny_llama, KINDS[name], tmp_path)
    assert not same_as_plain_passes(tiny_llama, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["IA3", "VERA", *(pytest.param(name, marks=pytest.mark.slow) for name in ("OFT", "ROAD"))]
)
def test_other_kinds_on_nf4(tiny_llama_wide: Path, tmp_path: Path, name: str) -> None:
    """PEFT names their layers over NF4 weights Linear4bit, as bitsandbytes names its own."""
    saved_adapter(tiny_llama_wide, KINDS[name], tmp_path)
    assert not same_as_plain_passes(tiny_llama_wide, tmp_path, load_in="nf4", compute_dtype="float32")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("GPT-2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "use_dora": True}),
        ("Mamba", {"target_modules": ["in_proj", "x_proj"]}),
        ("GPT-OSS", {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}),
    ],
)
def test_other_layers(tmp_path: Path, architecture: str, fields: dict[str, Any]) -> None:
    tiny_models.chatml_tokenizer(tmp_path)
    ZOO[architecture].build().save_pretrained(tmp_path)
    saved_adapter(tmp_path, lora(**fields), tmp_path / "adapter")
    assert not same_as_plain_passes(tmp_path, tmp_path / "adapter")


def test_two_active_adapters_go_the_plain_way(tiny_llama: Path, tmp_path: Path) -> None:
    for name, seed in (("default", 1), ("second", 2)):
        tuned = get_peft_model(plain_forward.plain_base(tiny_llama), lora())
        tiny_models.stir(tuned, seed)
        tuned.save_pretrained(str(tmp_path / name))
    backbone = tiny_models.load(tiny_llama)
    tuned = load_adapter(backbone.model, tmp_path / "default")
    load_adapter(tuned, tmp_path / "default", "second")
    tuned.base_model.set_adapter(["default", "second"])
    assert not is_packable(tuned, backbone.plan)
    # A merged adapter is part of the weights.
    tuned.base_model.set_adapter("default")
    ids = torch.tensor([[5, 7, 9, 11]])
    before = tuned(input_ids=ids).logits
    tuned.merge_adapter()
    torch.testing.assert_close(tuned(input_ids=ids).logits, before, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_kinds_that_are_refused(tiny_llama: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "adapter_config.json").write_text(f'{{"peft_type": "{kind}", "task_type": "CAUSAL_LM"}}')
    model = tiny_models.load(tiny_llama).model
    with pytest.raises(ModelError) as caught:
        load_adapter(model, tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert "\n" not in message


def test_the_refusal_names_the_kind(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}')
    with pytest.raises(ModelError, match=r"an adapter of kind PREFIX_TUNING, which is not known to score texts exact"):
        read_adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"its adapter_config\.json cannot be read: "):
        read_adapter_config(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alora_invocation_tokens": [1, 2]}, "LoRA with alora_invocation_tokens, which is not known to score"),
        ({"bias": "all"}, "LoRA with bias, which is not known to score texts exactly"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "LoRA with layer_replication, which is not known"),
        ({"init_lora_weights": "pissa"}, "PEFT changes the base model's weights when it loads an adapter with"),
    ],
)
def test_forms_of_lora_that_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    lora(**fields).save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=message):
        read_adapter_config(tmp_path)


def test_an_adapter_of_a_deeper_model(tiny_llama: Path, tmp_path: Path) -> None:
    base = plain_forward.plain_base(tiny_llama)
    get_peft_model(base, lora(layer_replication=[[0, 2], [1, 2]])).save_pretrained(str(tmp_path))
    # Like a third layer of its own.
    lora().save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=r"does not fit this model \(it has weights for .*layers\.2\..*load it onto"):
        load_adapter(tiny_models.load(tiny_llama).model, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["head", "saved head"])
def test_adapted_output_layers_in_bfloat16(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    saved_adapter(tiny_llama, LORA[name], tmp_path)
    exact, narrow = (
        tiny_models.engine_of(backbone, tiny_models.ONE_TOKEN, load_adapter(backbone.model, tmp_path))
        for backbone in (tiny_models.load(tiny_llama), tiny_models.load(tiny_llama, load_in="bfloat16"))
    )
    batch = collate([prompt.ids for prompt in exact.template.encode(tiny_models.TEXTS[:2])], [(), ()])
    with torch.inference_mode():
        wanted, found = (answer_logits(one.model, one.plan, batch) for one in (exact, narrow))
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.3 * wanted.std()
    # No multiples of a power of two, which bfloat16 would leave.
    assert (found != found.to(torch.bfloat16).float()).float().mean() > 0.5


@pytest.mark.parametrize("renamed", ["model.layers.0", "model.layers"])
def test_weights_whose_names_do_not_fit(tiny_llama: Path, tmp_path: Path, renamed: str) -> None:
    """PEFT converts the names of older versions of transformers; what it leaves out keeps B at zero."""
    tuned = attach_adapter(tiny_models.load(tiny_llama).model, AdapterConfig(r=4), seed=1)
    tiny_models.stir(tuned)
    save_adapter(tuned, tmp_path, str(tiny_llama))
    file = tmp_path / "adapter_model.safetensors"
    weights = {name.replace(renamed, f"other.{renamed}"): weight for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not fit this model"):
        load_adapter(tiny_models.load(tiny_llama).model, tmp_path)
