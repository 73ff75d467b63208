"""The study of label shift finds the gain that is there, and trusts what is label shift and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_calibration import LABELS, drawn
from whinchat.errors import DataError
from whinchat.evaluation.shift import ShiftStudy, study_shift
from whinchat.publish.figure_shift import write_shift


@pytest.fixture(scope="module")
def study() -> ShiftStudy:
    return study_shift(*drawn(5000), LABELS, "accuracy", "validation", seeds=10)


def test_every_scenario_that_fits(study: ShiftStudy) -> None:
    # The labels' shares are 0.15, 0.45 and 0.4: the last two cannot be four times as frequent.
    names = [one.name for one in study.scenarios]
    assert names[:5] == ["as they are", "a 4x rarer", "a 2x rarer", "a 2x more frequent", "a 4x more frequent"]
    assert "c 2x more frequent" in names
    assert "b 4x more frequent" not in names
    assert study.skipped == ()
    for one in study.scenarios:
        assert sum(one.shares) == pytest.approx(1)
        assert 100 <= one.texts <= 2500


def test_nothing_is_lost_where_nothing_moved(study: ShiftStudy) -> None:
    same = study.scenarios[0]
    assert same.reestimated.accuracy == pytest.approx(same.plain.accuracy, abs=0.005)
    assert same.share_error < 0.03
    assert same.trusted >= 0.9


def test_the_gain_grows_with_the_shift(study: ShiftStudy) -> None:
    by_name = {one.name: one for one in study.scenarios}
    gains = [
        by_name[f"a {name} more frequent"].reestimated.accuracy - by_name[f"a {name} more frequent"].plain.accuracy
        for name in ("2x", "4x")
    ]
    assert 0 < gains[0] < gains[1]
    assert all(one.trusted >= 0.8 for one in study.scenarios)


def test_the_record_and_its_figure(study: ShiftStudy, tmp_path: Path) -> None:
    assert ShiftStudy.from_dict(json.loads(json.dumps(study.to_dict()))) == study
    png, svg = write_shift(study, tmp_path / "figures" / "shift.png")
    assert png.stat().st_size > 5000
    assert "<svg" in svg.read_text(encoding="utf-8")
    once, again = (study_shift(*drawn(500), LABELS, "macro_f1", "validation", seeds=2) for _ in range(2))
    assert once == again
    assert "a 4x more frequent" in once.skipped


def test_too_few_rows() -> None:
    with pytest.raises(
        DataError, match="half of the 60 rows of test gives fewer than 100 texts; evaluate on more rows"
    ):
        study_shift(*drawn(60), LABELS, "accuracy", "test")
    assert np.isfinite(study_shift(*drawn(300), LABELS, "accuracy", "test", seeds=1).scenarios[0].share_error)
