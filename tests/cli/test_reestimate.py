"""``--reestimate-priors``: off unless asked for, beside the plain result when asked for, and with a verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.cli.conftest import Whinchat
from tests.evaluation.test_calibration import drawn
from tests.run import made
from whinchat.evaluation.calibration import FILE
from whinchat.evaluation.records import Prediction
from whinchat.publish.predictions import write_predictions

OPTION = "--reestimate-priors"


def texts_of(counts: tuple[int, int, int]) -> str:
    texts, targets = tiny.toy_rows(900, seed=5)
    chosen = [
        text
        for label in range(3)
        for text in [t for t, n in zip(texts, targets, strict=True) if n == label][: counts[label]]
    ]
    return "\n".join(chosen)


MANY = texts_of((90, 20, 10)).encode()


def lines(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_predict_answers_both_ways(whinchat: Whinchat, a_run: Path) -> None:
    plain = lines(whinchat("predict", a_run, "--json", given=MANY).out)
    said = whinchat("predict", a_run, "--json", OPTION, given=MANY)
    assert said.code == 0
    found = lines(said.out)
    assert len(found) == 120
    again = [row.pop("reestimated") for row in found]
    # Without the option nothing is different, and with it the plain answers are as they were.
    assert found == plain
    assert {row["trusted"] for row in again} in ({True}, {False})
    for row in again:
        assert row.keys() == {"label", "unsure", "probabilities", "trusted"}
        assert sum(row["probabilities"].values()) == pytest.approx(1)
    changed = sum(one["label"] != other["label"] for one, other in zip(plain, again, strict=True))
    assert f"Re-estimated label shares change {changed} of 120 answers. Verdict: " in said.err
    assert ("Verdict: trusted" if again[0]["trusted"] else "Verdict: do not trust this") in said.err
    assert "share in validation" in said.err


def test_predict_as_a_table(whinchat: Whinchat, a_run: Path) -> None:
    plain = whinchat("predict", a_run, given=MANY)
    assert "stimated" not in plain.out + plain.err
    said = whinchat("predict", a_run, OPTION, given=MANY)
    assert "re-estimated" in said.out.splitlines()[1]
    assert "of 120 answers. Verdict: " in said.out


def write_csv(path: Path) -> Path:
    return made.write_csv(path, rows=130, seed=8)


def test_evaluate_measures_both_ways(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "more.csv")
    plain = json.loads(whinchat("evaluate", a_run, "--data", data, "--json").out)
    said = whinchat("evaluate", a_run, "--data", data, "--json", OPTION)
    assert said.code == 0
    found = json.loads(said.out)
    both = found.pop("reestimated_priors")
    assert timeless(found) == timeless(plain)
    assert found["in_sample"] is False
    assert found["decide"]["n"] == both["reestimated"]["n"] == both["reestimation"]["texts"] == 130
    assert sum(both["reestimation"]["estimated"]) == pytest.approx(1)
    shown = whinchat("evaluate", a_run, "--data", data, OPTION).out
    for part in ("calibrated answers", "re-estimated", "true share", "of 130 answers. Verdict: "):
        assert part in shown
    assert f"{found['decide']['macro_f1']:.3f}" in shown
    assert f"{both['reestimated']['macro_f1']:.3f}" in shown
    assert "estimated" not in whinchat("evaluate", a_run, "--data", data).out


def timeless(evaluation: dict[str, Any]) -> dict[str, Any]:
    for mode in ("score", "generate"):
        evaluation[mode].pop("seconds")
    return evaluation


def test_too_few_texts(whinchat: Whinchat, a_run: Path) -> None:
    said = whinchat("predict", a_run, OPTION, "one", "two")
    assert said.code == 2
    assert said.out == ""
    assert "error: --reestimate-priors: label shares cannot be estimated from 2 texts; give 100 or more" in said.err
    # The run's own split has 24 rows.
    assert "cannot be estimated from 24 texts" in whinchat("evaluate", a_run, OPTION).err


def test_a_run_without_calibration(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    (run / "adapter" / FILE).unlink()
    for command in (("predict", run, OPTION), ("evaluate", run, OPTION, "--data", write_csv(tmp_path / "more.csv"))):
        said = whinchat(*command, given=MANY)
        assert said.code == 2
        assert f"error: {run}: has no calibration on validation rows, so there are no label shares" in said.err


def test_shift_on_a_runs_own_rows(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    scores, labels = drawn(600)
    rows = [Prediction(tuple(row), None, None) for row in scores.tolist()]
    texts = [f"text {at}" for at in range(600)]
    write_predictions(run / "predictions.parquet", tiny.ONE_TOKEN, texts, labels.tolist(), None, rows)
    said = whinchat("shift", run, "--seeds", "3", "--out", tmp_path / "[out]", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found == json.loads((tmp_path / "[out]" / "shift.json").read_text(encoding="utf-8"))
    assert found["scenarios"][0]["name"] == "as they are"
    assert (tmp_path / "[out]" / "shift.png").stat().st_size > 5000
    shown = whinchat("shift", run, "--seeds", "3", "--out", tmp_path / "[out]").out
    assert f"{found['scenarios'][1]['plain']['accuracy']:.3f} -> " in shown
    assert f"Figure: {tmp_path}/[out]/shift.png" in shown
    assert "--metric accuracy" not in shown
    for metric in ("accuracy", "macro_recall"):
        asked = ("shift", run, "--seeds", "3", "--out", tmp_path / metric, "--metric", metric)
        assert json.loads(whinchat(*asked, "--json").out)["metric"] == metric
    assert "try --metric accuracy or" in whinchat(*asked).out, "nothing to gain where the shares are divided out"


def test_shift_with_too_few_rows(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    said = whinchat("shift", a_run, "--out", tmp_path / "out")
    assert said.code == 2
    assert "error: shift: half of the 24 rows of validation gives fewer than 100 texts; evaluate on more" in said.err
    assert not (tmp_path / "out").exists()
