"""Every kind of contestant in one trial, end to end, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import tiny_models
from tests.helpers.arenas import MakeSpec, jobs_of, run_first
from tests.helpers.zoo import ZOO
from whinchat.arena.contestants import make_contestant
from whinchat.arena.spec import Method
from whinchat.data.dataset import Split
from whinchat.errors import DataError, ModelError

TRAINED = ("head-lora", "lora", "dora", "rslora", "pissa", "qlora", "qdora", "full")


def test_majority(spec_file: MakeSpec) -> None:
    result = run_first(spec_file(methods=["majority"]))
    assert len(set(result.predicted)) == 1
    assert result.cost.trainable_parameters == 3


def test_tfidf_learns_the_toy_task(spec_file: MakeSpec) -> None:
    result = run_first(spec_file(methods=["tfidf"], rows=[60]))
    assert result.metrics.macro_f1 > 0.9
    assert "by 5-fold cross-validation" in result.notes["regression"]
    assert result.metrics.calibration is not None
    assert result.metrics.calibration.label_mass == pytest.approx(1)


def test_a_model_without_a_classification_head(tmp_path: Path) -> None:
    tiny_models.chatml_tokenizer(tmp_path)
    ZOO["Mamba"].build().save_pretrained(tmp_path)
    contestant = make_contestant(Method(name="head-lora"), tiny_models.tiny_recipe(tmp_path))
    with pytest.raises(ModelError, match="transformers loads no classification head for this model") as caught:
        contestant.load()
    assert "\n" not in str(caught.value)


def test_a_head_that_overflows(tiny_llama: Path) -> None:
    contestant = make_contestant(Method(name="head-lora"), tiny_models.tiny_recipe(tiny_llama))
    contestant.load()
    with torch.no_grad():
        contestant._model.score.weight.fill_(torch.inf)  # type: ignore[attr-defined]  # of this contestant alone
    with pytest.raises(ModelError, match=r"scores are not finite numbers; set backbone\.load_in=float32"):
        contestant.answer(["a text"])


def test_a_label_without_rows_is_never_answered(spec_file: MakeSpec) -> None:
    _, jobs = jobs_of(spec_file(methods=["tfidf"]))
    job = next(iter(jobs.values()))
    contestant = make_contestant(job.method, job.recipe)
    texts, labels = tiny_models.toy_rows(60)
    kept = [row for row, label in enumerate(labels) if label != 1]
    train = Split("train", texts, labels)
    contestant.fit(train.take(kept))
    scores = contestant.answer(texts)
    assert scores.shape == (60, 3)
    assert 1 not in scores.argmax(axis=1)
    with pytest.raises(DataError, match="all 2 training rows are fine, so there is nothing to learn; raise rows"):
        contestant.fit(Split("train", ("a", "b"), (1, 1)))
    contestant.fit(Split("train", ("a", "b", "c"), (0, 0, 1)))
    assert contestant.notes["regression"] == "C = 1, too few rows of a label to choose"


def test_zero_shot(spec_file: MakeSpec) -> None:
    result = run_first(spec_file(methods=["zero-shot"]))
    assert (result.rows_used, result.cost.trainable_parameters) == (0, 0)


def test_few_shot(spec_file: MakeSpec) -> None:
    result = run_first(spec_file(methods=[{"name": "few-shot", "shots": 2}]))
    assert (result.rows_used, result.cost.trainable_parameters) == (6, 0)


@pytest.mark.parametrize("method", TRAINED)
def test_methods_that_train(spec_file: MakeSpec, method: str) -> None:
    result = run_first(spec_file(methods=[method]))
    assert result.rows_used == 20
    assert result.notes["steps"] == "2"
    share = result.cost.trainable_parameters / result.cost.parameters
    assert share == 1 if method == "full" else 0 < share < 0.3


@pytest.mark.parametrize("method", ["head-lora", "full"])
def test_heads_and_full_fine_tuning_learn(spec_file: MakeSpec, method: str) -> None:
    steps = [
        "train.max_steps=60",
        "train.per_device_train_batch_size=16",
        "train.learning_rate=2e-2" if method == "head-lora" else "train.learning_rate=5e-3",
    ]
    result = run_first(spec_file(methods=[{"name": method, "set": steps}], rows=[90]))
    assert result.metrics.macro_f1 > 0.5, "a guess reaches a third"


def test_a_head_has_its_adapter_in_the_layers_of_the_recipe(tiny_llama: Path) -> None:
    trained = []
    for layers in (None, [1], [5]):
        recipe = tiny_models.tiny_recipe(tiny_llama, adapter={"layers_to_transform": layers}, train={"max_steps": 1})
        contestant = make_contestant(Method(name="head-lora"), recipe)
        contestant.load()
        if layers == [5]:
            with pytest.raises(ModelError, match="has no linear layers in layer 5; its layers are"):
                contestant.fit(Split("train", ("a", "b", "c"), (0, 1, 2)))
            continue
        contestant.fit(Split("train", ("a", "b", "c"), (0, 1, 2)))
        trained.append(contestant.parameters()[1])
    head = 3 * contestant._model.config.hidden_size  # type: ignore[attr-defined]  # of a contestant with a head
    assert trained[1] - head == (trained[0] - head) / 2


def test_the_same_seed_gives_the_same_head(spec_file: MakeSpec) -> None:
    path = spec_file(methods=["head-lora"])
    assert run_first(path).metrics.calibration == run_first(path).metrics.calibration
