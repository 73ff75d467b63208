"""One split measured, against doing the same by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests import tiny
from whinchat.data.records import Split
from whinchat.evaluation.evaluate import compare, evaluate
from whinchat.evaluation.generation import generate, parse_answer
from whinchat.evaluation.scoring import score
from whinchat.model.adapter import attach
from whinchat.recipe.recipe import Adapter, Evaluate

ROWS = Split("validation", *tiny.toy_rows(25, seed=2))


def test_an_evaluation_holds_every_prediction(tiny_model: Path) -> None:
    engine = tiny.engine_of(tiny.load(tiny_model))
    settings = Evaluate(rows=20, bootstrap_resamples=100, per_device_eval_batch_size=6, max_new_tokens=4)
    outcome = evaluate(engine, ROWS, settings, "before")
    split = ROWS.head(20)
    prompts = engine.template.encode(split.texts)
    log_probs = score(engine, prompts, 20)
    assert len(outcome.predictions) == 20
    np.testing.assert_allclose([one.log_probs for one in outcome.predictions], log_probs, rtol=1e-5, atol=1e-5)
    spoken = generate(engine, prompts, 4, 20)
    assert [one.generated for one in outcome.predictions] == spoken
    assert [one.generated_label for one in outcome.predictions] == [
        parse_answer(one, engine.template.task) for one in spoken
    ]
    by_score = outcome.evaluation.score
    assert by_score.n == 20
    assert by_score.invalid_rate == 0
    assert by_score.labels == tiny.ONE_TOKEN
    assert by_score.calibration is not None
    assert by_score.macro_f1 == pytest.approx(
        f1_score(split.labels, log_probs.argmax(axis=1), labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert outcome.evaluation.generate is not None
    assert outcome.evaluation.generate.calibration is None
    assert outcome.evaluation.split == "validation"
    assert outcome.evaluation.split_fingerprint == split.fingerprint()


def test_without_generation(tiny_llama: Path) -> None:
    engine = tiny.engine_of(tiny.load(tiny_llama))
    outcome = evaluate(engine, ROWS, Evaluate(generate=False, bootstrap_resamples=100), "after")
    assert outcome.evaluation.generate is None
    assert {(one.generated, one.generated_label) for one in outcome.predictions} == {(None, None)}
    again = compare(ROWS, outcome, outcome, Evaluate(generate=False, bootstrap_resamples=100))
    assert [one.mode for one in again] == ["score"]
    assert (again[0].fixed, again[0].broken) == (0, 0)


def test_before_and_after_are_compared_row_by_row(tiny_llama: Path) -> None:
    backbone = tiny.load(tiny_llama)
    settings = Evaluate(bootstrap_resamples=100, max_new_tokens=3)
    before = evaluate(tiny.engine_of(backbone), ROWS, settings, "before")
    tuned = attach(backbone.model, Adapter(r=4, lora_alpha=8), seed=1)
    untouched = evaluate(tiny.engine_of(backbone, model=tuned), ROWS, settings, "after")
    # A fresh adapter is the identity, so nothing may differ.
    assert [(one.fixed, one.broken) for one in compare(ROWS, before, untouched, settings)] == [(0, 0), (0, 0)]
    tiny.stir(tuned, scale=0.3)
    after = evaluate(tiny.engine_of(backbone, model=tuned), ROWS, settings, "after")
    by_score, spoken = compare(ROWS, before, after, settings)
    assert (by_score.mode, spoken.mode) == ("score", "generate")
    expected = np.array(ROWS.labels)
    old, new = (np.array([np.argmax(one.log_probs) for one in side.predictions]) for side in (before, after))
    assert by_score.fixed == ((old != expected) & (new == expected)).sum()
    assert by_score.broken == ((old == expected) & (new != expected)).sum()
    assert by_score.fixed + by_score.broken > 0
    gain = after.evaluation.score.macro_f1 - before.evaluation.score.macro_f1
    assert by_score.macro_f1_gain == pytest.approx(gain)
