"""Contestants with an encoder: embeddings, SetFit, full fine-tuning and LoRA, on tiny encoders and on MiniLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertModel, BertTokenizer

from tests.helpers import tiny_models
from tests.helpers.arenas import MakeSpec, jobs_of, run_first
from tests.helpers.tiny_encoders import tiny_bert, write_pooling
from whinchat.arena.contestants import embeddings, encoder_tuning, make_contestant
from whinchat.arena.contestants.setfit_tuning import pair_plan
from whinchat.arena.run_arena import run_arena
from whinchat.arena.spec import Method, arena_to_yaml, load_arena
from whinchat.arena.trial_process import run_trial
from whinchat.data.dataset import Split
from whinchat.data.packages import cache_folder, catalog_entry
from whinchat.errors import DataError, ModelError, RecipeError
from whinchat.models.encoders import load_encoder, open_encoder

MINILM = "package:all-minilm-l6-v2"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bert(tmp_path_factory.mktemp("encoders") / "bert"))


def method_on(model: str, kind: str, **encoder: Any) -> dict[str, Any]:
    return {"name": kind, "kind": kind, "encoder": {"model": model, **encoder}}


def test_embeddings_of_a_tiny_encoder(spec_file: MakeSpec, bert: str) -> None:
    result = run_first(spec_file(methods=[method_on(bert, "embeddings", max_length=100)], rows=[80]))
    assert result.metrics.macro_f1 > 0.4
    assert result.cost.trainable_parameters == 3 * 32 + 3
    assert result.notes["embeddings"] == "mean pooling, 100 tokens at most"


def test_a_text_is_embedded_once_for_all_questions(
    questions_file: MakeSpec, bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded, embed = list[str](), embeddings.embed

    def counted(encoder: Any, folder: Any, texts: Sequence[str], pooling: Any) -> NDArray[np.float32]:
        embedded.extend(texts)
        return embed(encoder, folder, texts, pooling)

    monkeypatch.setattr(embeddings, "embed", counted)
    path = questions_file(methods=[method_on(bert, "embeddings")], rows=[80])
    result = run_trial(next(iter(jobs_of(path)[1].values()))).result
    assert result is not None
    assert len(result.questions) == 4
    assert result.questions[0].score > 0.6
    assert len(embedded) == len(set(embedded)) <= 100
    frozen = sum(weight.numel() for weight in BertModel.from_pretrained(bert).parameters())
    assert result.cost.parameters - result.cost.trainable_parameters == frozen


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(pooling: Any, bert: str) -> None:
    folder = open_encoder(bert, None, 64)
    encoder: Any = load_encoder(folder)
    texts = ["rain at the station", "tea", "the day is the day at the station", ""]
    together = embeddings.embed(encoder, folder, texts, pooling)
    for text, embedded in zip(texts, together, strict=True):
        with torch.inference_mode():
            hidden = encoder(**folder.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        pooled = hidden.mean(dim=0) if pooling == "mean" else hidden[0]
        np.testing.assert_allclose(embedded, (pooled / pooled.norm()).numpy(), atol=1e-5)
    assert embeddings.embed(encoder, folder, [], pooling).shape == (0, 32)


def test_the_sides_that_a_tokenizer_pads_and_cuts_do_not_matter(tmp_path: Path, tiny_llama: Path) -> None:
    texts, found = ["tea", "rain at the station is the day at tea"], []
    for side in ("right", "left"):
        folder = tiny_bert(tmp_path / side)
        BertTokenizer.from_pretrained(folder, padding_side=side, truncation_side=side).save_pretrained(folder)
        encoder = open_encoder(str(folder), None, 8)
        found.append(embeddings.embed(load_encoder(encoder), encoder, texts, "mean"))
        setfit: Any = make_contestant(
            Method.model_validate(method_on(str(folder), "setfit", max_length=8)), tiny_models.tiny_recipe(tiny_llama)
        )
        setfit.load()
        setfit._body = setfit._load_body()
        found.append(setfit.features(texts))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_setfit_trains_in_float32(tmp_path: Path, tiny_llama: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    BertModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    setfit: Any = make_contestant(
        Method.model_validate(method_on(str(folder), "setfit")), tiny_models.tiny_recipe(tiny_llama)
    )
    setfit.load()
    assert {weight.dtype for weight in setfit._load_body().parameters()} == {torch.float32}


def test_setfit_refuses_fewer_pairs_than_its_labels_need(tmp_path: Path, tiny_llama: Path) -> None:
    method = Method.model_validate(method_on(str(tiny_bert(tmp_path / "bert")), "setfit", max_pairs=100))
    labels = tuple(range(51))
    with pytest.raises(ModelError, match=r"encoder\.max_pairs: 100 pairs lack some labels; set 102 or more"):
        make_contestant(method, tiny_models.tiny_recipe(tiny_llama)).fit(Split("train", ("a",) * 51, labels))


@pytest.mark.parametrize(("how", "rate"), [("full", 3e-3), ("lora", 2e-2)])
def test_encoders_learn_the_toy_task(how: str, rate: float, spec_file: MakeSpec, bert: str) -> None:
    method = method_on(bert, "encoder", method=how, learning_rate=rate, num_train_epochs=20)
    path = spec_file(methods=[method], rows=[90])
    result = run_first(path)
    assert result.metrics.macro_f1 > 0.8, "a guess reaches a third"
    assert result.notes["steps"] == str(20 * 6)
    share = result.cost.trainable_parameters / result.cost.parameters
    assert share == 1 if how == "full" else 0 < share < 0.3
    assert result.metrics.calibration is not None
    assert result.metrics.calibration.label_mass == pytest.approx(1)
    if how == "full":
        assert run_first(path).metrics.calibration == result.metrics.calibration, "the same seed, the same model"


def test_few_rows_take_more_epochs_unless_the_method_says_otherwise(spec_file: MakeSpec, bert: str) -> None:
    steps = {}
    for rows, epochs in ((20, None), (20, 1), (90, 0.5)):
        method = method_on(bert, "encoder", num_train_epochs=epochs, per_device_train_batch_size=10)
        steps[rows, epochs] = run_first(spec_file(methods=[method], rows=[rows])).notes["steps"]
    assert steps == {(20, None): "200", (20, 1): "2", (90, 0.5): "5"}


def test_label_weights_reach_the_loss() -> None:
    class Outputs:
        logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])

    losses = -Outputs.logits.log_softmax(dim=1)[[0, 1], [0, 0]]
    loss = encoder_tuning._loss(torch.tensor([3.0, 1.0]), Outputs(), torch.tensor([0, 0]), 2)
    assert float(loss) == pytest.approx(float(3 * losses.mean()))


def test_an_encoder_that_diverges_says_so(bert: str, tiny_llama: Path) -> None:
    encoder = {"model": bert, "num_train_epochs": 1}
    method = Method.model_validate({"name": "x", "kind": "encoder", "encoder": encoder})
    contestant: Any = make_contestant(method, tiny_models.tiny_recipe(tiny_llama))
    contestant.load()
    contestant.fit(Split("train", ("rain", "tea", "sun"), (0, 1, 2)))
    with torch.no_grad():
        contestant._model.classifier.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match=r"scores are not finite numbers; lower encoder\.learning_rate"):
        contestant.answer(["a text"])


@pytest.mark.parametrize("kind", ["encoder", "setfit"])
def test_each_decision_has_an_encoder_of_its_own(kind: str, questions_file: MakeSpec, bert: str) -> None:
    settings = {"learning_rate": 2e-3} | ({"num_train_epochs": 20} if kind == "encoder" else {"max_pairs": 400})
    path = questions_file(methods=[method_on(bert, kind, **settings)], rows=[80])
    result = run_trial(next(iter(jobs_of(path)[1].values()))).result
    assert result is not None
    assert [question.name for question in result.questions] == ["mood", "rain", "quality", "tags"]
    assert result.questions[0].score > 0.6
    # One for mood, rain and quality each, and one for each of two tags.
    one = sum(weight.numel() for weight in BertModel.from_pretrained(bert).parameters())
    assert 5 * one < result.cost.trainable_parameters < 5.1 * one
    assert len([name for name in result.notes if name.endswith(": steps")]) == 5


def test_setfit_moves_texts_of_a_label_together(bert: str, tiny_llama: Path) -> None:
    texts, labels = tiny_models.toy_rows(80)
    same = np.equal.outer(labels, labels)
    method = Method.model_validate(method_on(bert, "setfit", learning_rate=1e-3, max_pairs=700))

    def gap(embedded: NDArray[np.float32]) -> float:
        similarity = embedded @ embedded.T
        return float(similarity[same].mean() - similarity[~same].mean())

    gaps = []
    for _ in range(2):
        contestant: Any = make_contestant(method, tiny_models.tiny_recipe(tiny_llama))
        contestant.load()
        contestant._body = contestant._load_body()
        before = gap(contestant.features(texts))
        contestant.fit(Split("train", texts, labels))
        gaps.append(gap(contestant.features(texts)))
    assert gaps[0] > before + 0.05
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-5), "the same seed, the same model"
    # 4 positive and 4 negative pairs for each row, in batches of 16.
    assert contestant.notes == {"pairs": "640 of 80 rows", "steps": "40", "regression": "C = 1"}
    assert contestant.parameters()[0] == contestant.parameters()[1] > 3 * 32
    np.testing.assert_allclose(np.exp(contestant.answer(texts)).sum(axis=1), 1, atol=1e-6)


def test_setfit_pools_as_the_encoders_own_settings_say(tmp_path: Path, tiny_llama: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    write_pooling(folder, {"pooling_mode": "cls"}, "Normalize")
    recipe, texts = tiny_models.tiny_recipe(tiny_llama), ["rain at the station", "tea"]
    pair = [
        make_contestant(Method.model_validate(method_on(str(folder), kind)), recipe)
        for kind in ("setfit", "embeddings")
    ]
    setfit, regression = (cast(Any, contestant) for contestant in pair)
    setfit.load()
    regression.load()
    setfit._body = setfit._load_body()
    np.testing.assert_allclose(setfit.features(texts), regression.features(texts), atol=1e-5)


def test_setfit_without_two_labels(bert: str, tiny_llama: Path) -> None:
    method = Method.model_validate(method_on(bert, "setfit"))
    contestant = make_contestant(method, tiny_models.tiny_recipe(tiny_llama))
    contestant.load()
    with pytest.raises(DataError, match="all 2 training rows are fine, so there is nothing to learn; raise rows"):
        contestant.fit(Split("train", ("a", "b"), (1, 1)))


def test_the_pairs_are_bounded() -> None:
    labels = [row % 2 for row in range(100)]
    assert pair_plan(labels, 4000, 1) == (list(range(100)), 20), "as many as the paper draws"
    assert pair_plan(labels * 10, 4000, 1) == (list(range(1000)), 2)
    labels = [0] * 9_999 + [1]
    chosen, pairs_of_a_row = pair_plan(labels, 4000, 1)
    assert (len(chosen), pairs_of_a_row) == (2000, 1)
    assert 9_999 in chosen, "each label keeps a row"
    assert chosen == pair_plan(labels, 4000, 1)[0] != pair_plan(labels, 4000, 2)[0]


def test_an_arena_with_encoders_is_read_again_as_it_was(spec_file: MakeSpec, bert: str, tmp_path: Path) -> None:
    methods = ["minilm-lora", {"name": "setfit", "encoder": {"max_pairs": 500}}, method_on(bert, "embeddings")]
    spec = load_arena(str(spec_file(methods=methods)))
    assert [one.encoder and one.encoder.method for one in spec.methods] == ["lora", "full", "full"]
    (tmp_path / "again.yaml").write_text(arena_to_yaml(spec), encoding="utf-8")
    assert load_arena(str(tmp_path / "again.yaml")) == spec
    wider = load_arena(str(spec_file(methods=[{"name": "minilm-lora", "encoder": {"max_length": 64}}]))).methods[0]
    assert wider.encoder is not None
    assert (wider.encoder.method, wider.encoder.max_length) == ("lora", 64), "the preset's own keys stay"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            {"name": "lora", "encoder": {"model": "x/y"}},
            "encoder: only the kinds embeddings, setfit, encoder have an encoder, this is adapter; leave it out",
        ),
        (
            method_on(MINILM, "embeddings", num_train_epochs=2, method="lora"),
            "encoder: kind embeddings does not read method, num_train_epochs; leave it out",
        ),
        (method_on(MINILM, "setfit", warmup_steps=0.5), "encoder: kind setfit does not read warmup_steps; leave it"),
        (method_on(MINILM, "encoder", epochs=2), "encoder.epochs: unknown key"),
        (method_on(MINILM, "encoder", method="dora"), "encoder.method: input should be 'full' or 'lora'"),
    ],
)
def test_keys_that_say_nothing_are_refused(method: Any, message: str, spec_file: MakeSpec) -> None:
    with pytest.raises(RecipeError) as caught:
        load_arena(str(spec_file(methods=[method])))
    assert message in str(caught.value)


def test_overrides_of_the_chat_model_are_refused(spec_file: MakeSpec, bert: str) -> None:
    overrides = ["train.learning_rate=1e-4", "adapter.r=8", "train.class_weights=balanced", "backbone.device=cpu"]
    path = spec_file(methods=[{"name": "mine", "kind": "encoder", "set": overrides}])
    with pytest.raises(RecipeError) as caught:
        jobs_of(path)
    assert str(caught.value) == (
        "toy: methods: mine: set: train.learning_rate, adapter.r would change nothing for kind encoder; leave it out; "
        "its own settings stand under encoder"
    )


def test_what_is_missing_is_said_before_the_first_trial(
    spec_file: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whinchat.models.requirements.find_spec", lambda name: None)
    methods = ["majority", "setfit", method_on("./nowhere", "encoder"), method_on("package:vader-tweets", "embeddings")]
    with pytest.raises(RecipeError) as caught:
        run_arena(str(spec_file(methods=methods)), tmp_path / "out")
    assert str(caught.value).splitlines() == [
        "toy: methods: setfit: kind: setfit needs the package setfit, which is not installed; "
        "`pip install 'whinchat[setfit]'`, or leave the method out",
        "toy: methods: encoder: encoder.model: ./nowhere is neither a folder nor OWNER/NAME on the hub; offline, "
        "package:all-minilm-l6-v2 works everywhere",
        "toy: methods: embeddings: encoder.model: package:vader-tweets holds no encoder; package:all-minilm-l6-v2 does",
    ]
    assert not (tmp_path / "out" / "arena.yaml").exists()


def test_a_model_that_the_hub_lacks_is_said_before_the_first_trial(
    spec_file: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("whinchat.models.backbone.HfApi.model_info", out_of_reach)
    with pytest.raises(RecipeError) as caught:
        run_arena(str(spec_file(methods=["majority", "bge-small"])), tmp_path / "out")
    assert str(caught.value) == (
        "toy: methods: bge-small: BAAI/bge-small-en-v1.5: the Hugging Face hub is out of reach (OSError), the model is "
        "not in its cache, and here is no such folder; package:all-minilm-l6-v2 needs no hub, or set "
        "encoder.model to a local folder"
    )


def skip_without_minilm() -> None:
    entry = catalog_entry(MINILM)
    cached = cache_folder() / "packages" / f"{entry.name}-{entry.sha256[:12]}" / entry.filename
    if not cached.is_file():
        pytest.skip(f"{entry.requirement} is not in the cache; `whinchat arena vader-curve` fetches it")


def test_minilm_itself(spec_file: MakeSpec) -> None:
    skip_without_minilm()
    result = run_first(spec_file(methods=["minilm"], rows=[80]))
    assert result.metrics.macro_f1 > 0.8
    assert result.cost.parameters > 22_000_000


@pytest.mark.slow
@pytest.mark.parametrize("method", ["minilm-full", "minilm-lora", "setfit"])
def test_minilm_fine_tuned(method: str, spec_file: MakeSpec) -> None:
    skip_without_minilm()
    fewer = {"max_pairs": 800} if method == "setfit" else {"num_train_epochs": 10}
    result = run_first(spec_file(methods=[{"name": method, "encoder": fewer}], rows=[80]))
    assert result.metrics.macro_f1 > 0.8
    assert result.cost.parameters > 22_000_000
