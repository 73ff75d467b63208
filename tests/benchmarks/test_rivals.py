"""The comparison with sysone and decisionformer, on a tiny model; the rivals where a folder of them is named."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.measure import Contest, Entry, create
from benchmarks.rivals import contestants, run

from benchmarks import tables
from tests.helpers import benchmark_results, tiny_models
from whinchat.data.dataset import Split

LABELS = ["negative", "neutral", "positive"]
RIVALS = os.environ.get("WHINCHAT_RIVALS")
TRAIN, HELD_OUT, EVALUATED = 80, 12, 40
SIZES = ("--train", str(TRAIN), "--held-out", str(HELD_OUT), "--evaluated", str(EVALUATED))


@pytest.fixture
def split() -> Split:
    texts, labels = tiny_models.toy_rows(200, LABELS)
    rows = sorted({text: row for row, text in enumerate(texts)}.values())[: TRAIN + HELD_OUT + EVALUATED]
    return Split("train", texts, labels).take(rows)


def options(model: Path, **own: Any) -> dict[str, Any]:
    fixed = {"labels": LABELS, "instructions": "Which mood?", "train": TRAIN, "held_out": HELD_OUT, "seed": 0}
    return {**fixed, "model": str(model), "epochs": 1, "batch": 4, "learning_rate": None, "checkpointing": None, **own}


def one_round(kind: str, split: Split, chosen: dict[str, Any]) -> dict[str, Any]:
    """The figures of a round in this process."""
    kind = f"benchmarks.rivals.contestants:{kind}"
    contestant = create(kind, chosen, split)
    contestant.load()
    assert contestant.run(warm_up=True).examples == 1
    done = contestant.run()
    assert done.examples == TRAIN * chosen["epochs"]
    assert 0 < done.seconds < done.facts["fit_seconds"]
    probabilities = np.array(done.facts["probabilities"])
    assert probabilities.shape == (EVALUATED, len(LABELS))
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-3)
    entry = Entry(Contest(kind, kind, kind, chosen, split), "rivals", contestant.facts, peak_bytes=2**30)
    entry.rounds.append({"examples": done.examples, "seconds": done.seconds, "facts": done.facts})
    return run.figures(entry, split, chosen)


def test_whinchat_learns_and_answers_the_evaluated_rows(split: Split, tiny_llama: Path) -> None:
    chosen = options(tiny_llama, epochs=6, learning_rate=1e-2, load_in="float32")
    found = one_round("Whinchat", split, chosen)
    # Chance is a third: labels in another order, or other rows, would show.
    assert found["accuracy"] > 0.6
    assert found["macro_f1"] > 0.5
    assert 0 <= found["ece"] < 1
    assert found["settings"]["learning_rate"] == "0.01"
    assert found["settings"]["dtype"] == "float32 weights, float32 products"
    assert found["mean_prompt_tokens"] > 10
    assert "probabilities" not in found


def test_the_rows_are_dealt_once_each(split: Split) -> None:
    rows = contestants.deal(split, TRAIN, HELD_OUT, 0)
    assert (len(rows.train), len(rows.held_out), len(rows.evaluated)) == (TRAIN, HELD_OUT, EVALUATED)
    assert sorted(rows.train.texts + rows.held_out.texts + rows.evaluated.texts) == sorted(split.texts)
    assert rows.evaluated == split.take(range(TRAIN + HELD_OUT, len(split)))
    assert contestants.deal(split, TRAIN, HELD_OUT, 1).held_out != rows.held_out
    label_of = dict(zip(split.texts, split.labels, strict=True))
    for part in (rows.train, rows.held_out):
        assert [label_of[text] for text in part.texts] == list(part.labels)


def test_a_missing_rival_is_left_out_with_the_way_to_install_it(
    split: Split, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(distributions(name="sysone")):
        pytest.skip("sysone is installed")
    monkeypatch.setattr(run, "read_rows", lambda rows, data: (split, {"source": "toy", "description": "toy rows"}))
    out = tmp_path / "rivals.json"
    assert run.main([*SIZES, "--only", "sysone", "--model", str(tiny_llama), "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["contestants"]["sysone"]["unavailable"] == (
        f"sysone is not installed; {contestants.INSTALL}, then --rivals FOLDER"
    )
    row = "| sysone | not measured: sysone is not installed; pip install --no-deps "
    assert row in capsys.readouterr().out
    page, *_ = tables.publish(benchmark_results.result(), tmp_path / "docs", rivals=out)
    assert row in page.read_text(encoding="utf-8")
    measured = one_round("Whinchat", split, options(tiny_llama, load_in="float32"))
    result["contestants"]["whinchat"] = measured | {"title": "ours"}
    macro_f1 = f"{measured['macro_f1']:.3f}"
    (line,) = (line for line in tables.rivals_section(result).splitlines() if line.startswith("| ours |"))
    assert f"| 1.00 GiB | {macro_f1} |" in line
    assert line.endswith("| 0.001; float32 weights, float32 products |")


@pytest.mark.slow
@pytest.mark.skipif(RIVALS is None, reason="no rivals: name the folder where they are installed in WHINCHAT_RIVALS")
@pytest.mark.parametrize(
    ("kind", "own", "dtype"),
    [
        ("Sysone", {"checkpointing": False}, "float32"),
        ("Sysone", {"precision": "bf16", "checkpointing": True}, "bfloat16"),
        ("Decisionformer", {"checkpointing": False}, "float32"),
        ("Decisionformer", {"precision": "bfloat16", "checkpointing": True}, "bfloat16"),
    ],
)
def test_a_round_of_a_rival(
    kind: str,
    own: dict[str, Any],
    dtype: str,
    split: Split,
    tiny_mistral: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("DECISIONFORMER_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    found = one_round(kind, split, options(tiny_mistral, folder=RIVALS, **own))
    assert 0 <= found["macro_f1"] <= 1
    assert found["settings"][kind.lower()]
    assert found["settings"]["dtype"] == dtype
    assert found["settings"]["checkpointing"] is own["checkpointing"]
