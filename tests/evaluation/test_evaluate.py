"""One split measured, against doing the same by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.helpers import tiny_models
from whinchat.data.dataset import Split
from whinchat.evaluation.answer_parsing import parse_answer
from whinchat.evaluation.evaluate import evaluate, paired_tests
from whinchat.evaluation.generation import generate
from whinchat.evaluation.row_sample import sample_rows
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.recipe.model_config import AdapterConfig
from whinchat.recipe.schema import EvaluateConfig

ROWS = Split("validation", *tiny_models.toy_rows(25, seed=2))


def test_an_evaluation_holds_every_prediction(tiny_model: Path) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_model))
    settings = EvaluateConfig(rows=20, bootstrap_resamples=100, per_device_eval_batch_size=6, max_new_tokens=4)
    outcome = evaluate(engine, ROWS, settings, "before")
    split = ROWS.head(20)
    prompts = engine.template.encode(split.texts)
    log_probs = score_prompts(engine, prompts, 20)
    assert len(outcome.predictions) == 20
    np.testing.assert_allclose([one.log_probs for one in outcome.predictions], log_probs, rtol=1e-5, atol=1e-5)
    spoken = generate(engine, prompts, 4, 20)
    assert [one.generated for one in outcome.predictions] == spoken
    assert [one.generated_label for one in outcome.predictions] == [
        parse_answer(one, engine.template.task) for one in spoken
    ]
    first_words = [parse_answer(one, engine.template.task, "first_word") for one in spoken]
    assert [one.first_word_label for one in outcome.predictions] == first_words
    by_score = outcome.evaluation.score
    assert by_score.n == 20
    assert by_score.invalid_rate == 0
    assert by_score.labels == tiny_models.ONE_TOKEN
    assert by_score.calibration is not None
    assert by_score.macro_f1 == pytest.approx(
        f1_score(split.labels, log_probs.argmax(axis=1), labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert outcome.evaluation.generate is not None
    assert outcome.evaluation.generate.calibration is None
    assert outcome.evaluation.generate_first_word is not None
    assert outcome.evaluation.generate_first_word.macro_f1 == pytest.approx(
        f1_score(split.labels, first_words, labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert outcome.evaluation.split == "validation"
    assert outcome.evaluation.split_fingerprint == split.fingerprint()


def test_most_rows_on_which_scoring_and_generation_disagree_are_warned_of(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_llama))
    settings = EvaluateConfig(bootstrap_resamples=100)
    best = score_prompts(engine, engine.template.encode(ROWS.texts), 20).argmax(axis=1)
    answers = [tiny_models.ONE_TOKEN[label] for label in best]
    # Of 25 answers, 12 or 13 are another label than the scored one; the first word of a longer answer counts.
    for wrong, warned in ((12, False), (13, True)):
        spoken = ["something else" if row < wrong else f"{word} and more" for row, word in enumerate(answers)]
        monkeypatch.setattr("whinchat.evaluation.evaluate.generate", lambda *_, spoken=spoken: spoken)
        for when in ("before", "after"):
            caplog.clear()
            outcome = evaluate(engine, ROWS, settings, when)
            assert outcome.evaluation.disagreement == pytest.approx(wrong / 25)
            assert ("give different labels for 52 % of the texts" in caplog.text) is (warned and when == "after")


def test_without_generation(tiny_llama: Path) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_llama))
    outcome = evaluate(engine, ROWS, EvaluateConfig(generate=False, bootstrap_resamples=100), "after")
    assert outcome.evaluation.generate is None
    assert outcome.evaluation.generate_first_word is None
    assert outcome.evaluation.disagreement is None
    assert {(one.generated, one.generated_label, one.first_word_label) for one in outcome.predictions} == {(None,) * 3}
    again = paired_tests(ROWS, outcome, outcome, EvaluateConfig(generate=False, bootstrap_resamples=100))
    assert [one.mode for one in again] == ["score"]
    assert (again[0].fixed, again[0].broken) == (0, 0)


def test_before_and_after_are_compared_row_by_row(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    settings = EvaluateConfig(bootstrap_resamples=100, max_new_tokens=3)
    before = evaluate(tiny_models.engine_of(backbone), ROWS, settings, "before")
    tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8), seed=1)
    untouched = evaluate(tiny_models.engine_of(backbone, model=tuned), ROWS, settings, "after")
    # A fresh adapter is the identity, so nothing may differ.
    assert [(one.fixed, one.broken) for one in paired_tests(ROWS, before, untouched, settings)] == [(0, 0)] * 3
    tiny_models.stir(tuned, scale=0.3)
    after = evaluate(tiny_models.engine_of(backbone, model=tuned), ROWS, settings, "after")
    tests = paired_tests(ROWS, before, after, settings)
    assert [test.mode for test in tests] == ["score", "generate", "generate_first_word"]
    by_score = tests[0]
    expected = np.array(ROWS.labels)
    old, new = (np.array([np.argmax(one.log_probs) for one in side.predictions]) for side in (before, after))
    assert by_score.fixed == ((old != expected) & (new == expected)).sum()
    assert by_score.broken == ((old == expected) & (new != expected)).sum()
    assert by_score.fixed + by_score.broken > 0
    gain = after.evaluation.score.macro_f1 - before.evaluation.score.macro_f1
    assert by_score.macro_f1_gain == pytest.approx(gain)


def test_free_generation_of_a_sample_is_measured_beside_the_scores_of_the_same_rows(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    settings = EvaluateConfig(bootstrap_resamples=100, max_new_tokens=3, generation_rows=9, seed=5)
    before = evaluate(tiny_models.engine_of(backbone), ROWS, settings, "before")
    rows = [row for row, one in enumerate(before.predictions) if one.generated is not None]
    assert rows == sample_rows(ROWS.texts, 9, 5) != list(range(9))
    whole = evaluate(
        tiny_models.engine_of(backbone), ROWS, settings.model_copy(update={"generation_rows": 25}), "before"
    )
    assert [before.predictions[row] for row in rows] == [whole.predictions[row] for row in rows]
    assert [one.log_probs for one in before.predictions] == [one.log_probs for one in whole.predictions]
    measured, scored = before.evaluation, before.evaluation.score_of_generated
    assert whole.evaluation.score_of_generated is None
    assert measured.score.n == 25
    assert scored is not None
    assert measured.generate is not None
    assert measured.generate_first_word is not None
    assert {scored.n, measured.generate.n, measured.generate_first_word.n} == {9}
    expected = np.array(ROWS.labels)[rows]
    best = np.array([before.predictions[row].best for row in rows])
    assert scored.accuracy == pytest.approx((best == expected).mean())
    read = np.array([before.predictions[row].generated_label for row in rows])
    assert measured.generate.accuracy == pytest.approx((read == expected).mean())
    first = np.array([before.predictions[row].first_word_label for row in rows])
    assert measured.disagreement == pytest.approx(((best != read) & (best != first)).mean())
    tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8), seed=1)
    tiny_models.stir(tuned, scale=0.3)
    after = evaluate(tiny_models.engine_of(backbone, model=tuned), ROWS, settings, "after")
    tests = {test.mode: test for test in paired_tests(ROWS, before, after, settings)}
    assert [(mode, test.n) for mode, test in tests.items()] == [
        ("score", 25), ("generate", 9), ("generate_first_word", 9)
    ]  # fmt: skip
    assert after.evaluation.generate is not None
    gain = after.evaluation.generate.macro_f1 - measured.generate.macro_f1
    assert tests["generate"].macro_f1_gain == pytest.approx(gain)
