"""Training: what a step is, that it learns, and that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.helpers import plain_forward, tiny_models
from tests.helpers.tiny_training import Gradients, make, recipe_for, split, weights_of
from whinchat.data.dataset import SOFT_SPLIT, Split, join_soft
from whinchat.evaluation.scoring import score_prompts
from whinchat.training.losses import label_offsets, label_weights


class StopAt(TrainerCallback):  # type: ignore[misc]
    """Dies at the end of a step, after its checkpoint where there is one."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("folder", "loss", "method"),
    [("tiny_llama", "choice", "lora"), ("tiny_mistral", "completion", "lora"), ("tiny_llama", "completion", "dora")],
)
def test_learns_a_trivial_task(
    request: pytest.FixtureRequest, tmp_path: Path, folder: str, loss: str, method: str
) -> None:
    recipe = recipe_for(
        request.getfixturevalue(folder),
        {"loss": loss, "num_train_epochs": 6, "per_device_train_batch_size": 16},
        adapter={"method": method, "r": 8, "lora_alpha": 16},
    )
    trainer = make(recipe, tmp_path, split(160))
    held_out = split(60, seed=9)
    prompts = trainer.engine.template.encode(held_out.texts)

    def accuracy() -> float:
        chosen = score_prompts(trainer.engine, prompts, 32).argmax(axis=1)
        return float((chosen == held_out.labels).mean())

    before = accuracy()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert before < 0.7
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    assert accuracy() > 0.9


@pytest.mark.parametrize("loss", ["completion", "choice", "full"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_a_step_has_the_gradient_of_the_mean_over_its_examples(
    tiny_llama: Path, tmp_path: Path, loss: str, weights: str
) -> None:
    """Against the plain path: mean over examples (choice) or predicted tokens, weighted by label."""
    labels = tiny_models.NESTED
    rows = split(6, seed=1, labels=labels)
    assert set(rows.labels) == {0, 1, 2}
    recipe = recipe_for(
        tiny_llama,
        {
            "loss": loss,
            "class_weights": weights,
            "max_steps": 1,
            "max_grad_norm": 0,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 3,
        },
        task={"labels": labels},
    )
    watch = Gradients()
    trainer = make(recipe, tmp_path / "run", rows, extra=(watch,))
    tiny_models.stir(trainer.engine.model)
    twin = plain_forward.plain_twin(trainer.engine.model, tiny_llama, tmp_path / "twin")
    template = trainer.engine.template
    share = label_weights(recipe.train, labels, rows.labels)
    if weights == "balanced":
        assert len(set(share.tolist())) > 1
    total, tokens = torch.zeros(()), 0
    for text, prompt, label in zip(rows.texts, template.encode(rows.texts), rows.labels, strict=True):
        if loss == "choice":
            row = plain_forward.choice_sum(twin, prompt.ids, plain_forward.scored_answers(template), label)
            tokens += 1
        elif loss == "completion":
            row = plain_forward.completion_sum(twin, prompt.ids, template.answers[label], template.end_of_turn)
            tokens += len(template.answers[label]) + 1
        else:
            (conversation,) = template.encode_conversations([text], [label])
            row = plain_forward.sequence_sum(twin, conversation.ids)
            tokens += len(conversation.ids) - 1
        total = total + share[label] * row
    wanted = total / tokens
    trainer.train()
    plain_forward.assert_same_gradients(watch.steps[0], plain_forward.gradients(twin, wanted))
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert logged == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("loss", ["completion", "choice", "full"])
def test_accumulation_equals_one_big_batch(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    labels = tiny_models.NESTED  # answers of unlike length: a mean of means would differ
    results = []
    for size, accumulated in ((12, 1), (4, 3), (5, 3)):
        watch = Gradients()
        recipe = recipe_for(
            tiny_model,
            {
                "loss": loss,
                "max_steps": 1,
                "max_grad_norm": 0,
                "per_device_train_batch_size": size,
                "gradient_accumulation_steps": accumulated,
                "optim": "sgd",
            },
            task={"labels": labels},
        )
        trainer = make(recipe, tmp_path / str(size), split(12, labels=labels), extra=(watch,))
        tiny_models.stir(trainer.engine.model)
        trainer.train()
        results.append((watch.steps[0], weights_of(trainer)))
    for gradients, weights in results[1:]:
        for name, wanted in results[0][0].items():
            assert (gradients[name] - wanted).abs().max() <= 3e-6 * max(1.0, wanted.abs().max().item())
        for name, wanted in results[0][1].items():
            assert (weights[name] - wanted).abs().max() <= 1e-6


def test_class_weights() -> None:
    train = tiny_models.tiny_recipe("x").train
    names, labels = ("a", "b", "c"), [0, 0, 0, 1, 1, 2]
    assert label_weights(train, names, labels).tolist() == [1, 1, 1]
    balanced = train.model_copy(update={"class_weights": "balanced"})
    assert label_weights(balanced, names, labels).tolist() == pytest.approx([6 / 9, 6 / 6, 6 / 3])
    given = train.model_copy(update={"class_weights": {"c": 3.0, "a": 1.0, "b": 0.0}})
    assert label_weights(given, names, labels).tolist() == [1.0, 0.0, 3.0]


def test_balanced_weights_of_a_label_without_rows() -> None:
    train = tiny_models.tiny_recipe("x").train.model_copy(update={"class_weights": "balanced"})
    found = label_weights(train, ("a", "b", "c"), [0, 0, 1])
    assert torch.isfinite(found).all()
    assert found[:2].tolist() == pytest.approx([3 / 6, 3 / 3])


LORA = {"method": "lora", "lora_dropout": 0.2}
DORA = {"method": "dora", "lora_dropout": 0.2}
PISSA = {"init": "pissa", "lora_dropout": 0.1}


@pytest.mark.parametrize(
    ("adapter", "killed_at"),
    # Steps 5 and 10 end an epoch.
    [(LORA, 5), (DORA, 3), (PISSA, 8)],
    ids=["lora-5", "dora-3", "pissa-8"],
)
def test_a_killed_run_resumes_bit_for_bit(
    tiny_llama: Path, tmp_path: Path, adapter: dict[str, Any], killed_at: int
) -> None:
    """Five steps an epoch, two epochs, a checkpoint every step; the rest of the world moves on in between."""
    recipe = recipe_for(
        tiny_llama,
        {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "save_steps": 1,
            "eval_steps": 3,
        },
        adapter=adapter,
    )
    rows, validation = split(40), split(12, seed=5)
    whole = make(recipe, tmp_path / "whole", rows, validation)
    whole.train()
    assert whole.state.global_step == 10

    first = make(recipe, tmp_path / "cut", rows, validation, extra=(StopAt(killed_at),))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert sorted(one.name for one in (tmp_path / "cut").glob("checkpoint-*"))[-1] == f"checkpoint-{killed_at}"
    torch.manual_seed(999)
    torch.rand(17)
    second = make(recipe, tmp_path / "cut", rows, validation)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 10

    wanted, found = weights_of(whole), weights_of(second)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    saved = [load_file(tmp_path / run / "checkpoint-10" / "adapter_model.safetensors") for run in ("whole", "cut")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])
    # And the two runs tell the same story.
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, second)]
    assert losses[0] == losses[1]


def test_different_seeds_give_different_runs(tiny_llama: Path, tmp_path: Path) -> None:
    """Keeps the test above honest: batches and dropout do matter to the last bit."""
    ends = []
    for number, seed in enumerate((1, 2, 1)):
        recipe = recipe_for(
            tiny_llama, {"max_steps": 3, "per_device_train_batch_size": 4, "seed": seed}, adapter={"lora_dropout": 0.2}
        )
        trainer = make(recipe, tmp_path / f"run-{number}", split(40))
        trainer.train()
        ends.append(weights_of(trainer))
    assert all(torch.equal(ends[0][name], ends[2][name]) for name in ends[0])
    assert not all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_every_epoch_sees_every_row_once_in_another_order(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, {"num_train_epochs": 3, "per_device_train_batch_size": 4})
    trainer = make(recipe, tmp_path, split(19))
    seen: list[tuple[int, ...]] = []
    collate = trainer.data_collator

    def spy(examples: Any) -> Any:
        seen.extend(example.prompt.ids for example in examples)
        return collate(examples)

    trainer.data_collator = spy
    trainer.train()
    epochs = [seen[at : at + 19] for at in (0, 19, 38)]
    assert len(seen) == 57
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_keep_best_ends_with_the_best_checkpoint(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = recipe_for(
        tiny_llama,
        {
            "keep": "best", "eval_steps": 2, "num_train_epochs": 3, "per_device_train_batch_size": 8,
            # So high a rate that the best is not the last.
            "learning_rate": 0.2, "lr_scheduler_type": "constant", "max_grad_norm": 0, "save_total_limit": 20,
        },
    )  # fmt: skip
    trainer = make(recipe, tmp_path, split(48), split(30, seed=3))
    trainer.train()
    scores = {entry["step"]: entry["eval_macro_f1"] for entry in trainer.state.log_history if "eval_macro_f1" in entry}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert scores[best] > scores[max(scores)], "the last is the best, so the test proves nothing"
    assert trainer.state.best_global_step == best
    kept = load_file(tmp_path / f"checkpoint-{best}" / "adapter_model.safetensors")
    now = {name.replace(".default", ""): weight for name, weight in weights_of(trainer).items()}
    assert kept.keys() == now.keys()
    assert all(torch.equal(kept[name], now[name]) for name in kept)
    assert trainer.evaluate()["eval_macro_f1"] == pytest.approx(scores[best])


def test_early_stopping(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = recipe_for(
        tiny_llama,
        {
            "early_stopping_patience": 2, "eval_steps": 1, "max_steps": 30, "per_device_train_batch_size": 4,
            "learning_rate": 1e-9,
        },
    )  # fmt: skip
    trainer = make(recipe, tmp_path, split(16), split(12, seed=3))
    trainer.train()
    # Nothing gets better at this rate: the first evaluation is the best, two more and it is over.
    assert trainer.state.global_step == 3


def test_validation_metrics_are_those_of_scoring(tiny_llama: Path, tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    recipe = recipe_for(tiny_llama, {"eval_steps": 1, "eval_rows": 10})
    validation = split(30, seed=3)
    trainer = make(recipe, tmp_path, split(8), validation)
    found = trainer.evaluate()
    log_probs = score_prompts(trainer.engine, trainer.engine.template.encode(validation.texts[:10]), 4)
    expected = list(validation.labels[:10])
    assert found["eval_macro_f1"] == pytest.approx(
        f1_score(expected, log_probs.argmax(axis=1), labels=[0, 1, 2], average="macro", zero_division=0.0)
    )
    chosen = torch.tensor(log_probs).double().log_softmax(-1)[torch.arange(10), torch.tensor(expected)]
    assert found["eval_loss"] == pytest.approx(-chosen.mean().item(), rel=1e-5)


@pytest.mark.parametrize("every", [{"save_steps": 0.5}, {"save_steps": 2}, {"eval_steps": 0.5, "keep": "best"}])
def test_checkpoints_are_adapters_alone(tiny_llama: Path, tmp_path: Path, every: dict[str, Any]) -> None:
    recipe = recipe_for(tiny_llama, {"max_steps": 4, "per_device_train_batch_size": 2, **every})
    make(recipe, tmp_path, split(8), split(8)).train()
    folders = sorted(one.name for one in tmp_path.glob("checkpoint-*"))
    assert folders == ["checkpoint-2", "checkpoint-4"]
    for folder in folders:
        names = load_file(tmp_path / folder / "adapter_model.safetensors")
        assert names
        assert all("lora_" in name for name in names)


def test_loraplus_gives_b_its_own_rate_and_resumes(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, {"loraplus_lr_ratio": 8, "max_steps": 4, "save_steps": 2, "warmup_steps": 0})
    rows = split(64, seed=2)
    whole = make(recipe, tmp_path / "whole", rows)
    whole.train()
    rates = {group["lr"] for group in make(recipe, tmp_path / "fresh", rows).create_optimizer().param_groups}
    assert {1e-2, 8e-2} <= rates
    killed = make(recipe, tmp_path / "killed", rows, extra=(StopAt(3),))
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    resumed = make(recipe, tmp_path / "killed", rows)
    resumed.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-2"))
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(resumed)[name]), name
    plain_rate = make(recipe_for(tiny_llama, {"max_steps": 4, "warmup_steps": 0}), tmp_path / "plain", rows)
    plain_rate.train()
    assert any(not torch.equal(weight, weights_of(plain_rate)[name]) for name, weight in weights_of(whole).items())


def test_logit_adjustment_takes_the_label_shares_out_of_the_scores(tiny_llama: Path, tmp_path: Path) -> None:
    """Texts that say nothing: the plain loss learns the shares of the labels, the adjusted one forgets them."""
    texts = tuple(f"word {row % 7}" for row in range(320))
    labels = tuple(int(row % 5 == 0) for row in range(320))  # 80 % and 20 %
    spread = {}
    for strength in (0.0, 1.0):
        recipe = recipe_for(
            tiny_llama,
            {"loss": "choice", "logit_adjustment": strength, "num_train_epochs": 3, "per_device_train_batch_size": 32},
        )
        trainer = make(recipe, tmp_path / str(strength), Split("train", texts, labels))
        trainer.train()
        found = score_prompts(trainer.engine, trainer.engine.template.encode(texts[:7]), 8)
        spread[strength] = float((found[:, 0] - found[:, 1]).mean())
    assert spread[0.0] == pytest.approx(math.log(4), abs=0.4)
    assert spread[1.0] == pytest.approx(0.0, abs=0.4)


def test_logit_adjustment_counts_shares_where_labels_are_not_certain() -> None:
    """Against Menon et al. 2021, equation 10: the log of each label's share, with half a row for each label."""
    texts, labels, shares = ("a", "b", "c"), (0, 0, 1), ((0.6, 0.4), (0.75, 0.25), (0.0, 1.0))
    hard = label_offsets(2, 3, Split("train", texts, labels))
    assert hard.tolist() == pytest.approx([2 * math.log(count / 4.5) for count in (2.5, 1.5, 0.5)])
    soft = label_offsets(2, 2, Split("train", texts, labels, shares=shares))
    assert soft.tolist() == pytest.approx([2 * math.log(count / 4) for count in (1.85, 2.15)])


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_soft_labels_have_the_gradient_of_their_cross_entropy(tiny_llama: Path, tmp_path: Path, weights: str) -> None:
    """Against the plain path: each label's choice loss counts with its share, times the label's weight."""
    labels, hard = tiny_models.NESTED, split(6, seed=1, labels=tiny_models.NESTED)
    shares = ((0.5, 0.25, 0.25), (0.0, 1.0, 0.0))
    soft = Split(SOFT_SPLIT, ("soft text one", "soft text two"), (0, 1), shares=shares)
    rows = join_soft(hard, soft)
    train = {
        "loss": "choice",
        "class_weights": weights,
        "max_steps": 1,
        "max_grad_norm": 0,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    }
    watch = Gradients()
    trainer = make(recipe_for(tiny_llama, train, task={"labels": labels}), tmp_path / "run", rows, extra=(watch,))
    tiny_models.stir(trainer.engine.model)
    twin = plain_forward.plain_twin(trainer.engine.model, tiny_llama, tmp_path / "twin")
    template, total = trainer.engine.template, torch.zeros(())
    counts = [sum(column) for column in zip(*rows.shares, strict=True)]
    of_label = [1.0 if weights == "none" else len(rows) / (len(labels) * count) for count in counts]
    for prompt, own in zip(template.encode(rows.texts), rows.shares, strict=True):
        for label, share in enumerate(own):
            loss = plain_forward.choice_sum(twin, prompt.ids, plain_forward.scored_answers(template), label)
            total = total + of_label[label] * share * loss / len(rows)
    trainer.train()
    plain_forward.assert_same_gradients(watch.steps[0], plain_forward.gradients(twin, total))
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert logged == pytest.approx(total.item(), rel=1e-4)
