"""Fits recover what they were made from; points that failed are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.growth import Reading, line, power_law
from benchmarks.measure import Contest

from benchmarks import growth
from tests.helpers import benchmark_results
from whinchat.data.dataset import Split


def test_power_law() -> None:
    fit = power_law([1, 10, 100], [3.0, 3 * 10**1.5, 3 * 100**1.5])
    assert fit is not None
    assert fit == pytest.approx({"slope": 1.5, "factor": 3.0})
    assert power_law([4, 4], [1.0, 2.0]) is None


def test_line() -> None:
    fit = line([100, 300, 1000], [8 + 2.0, 8 + 6.0, 8 + 20.0])
    assert fit is not None
    assert fit == pytest.approx({"start_up": 8.0, "seconds_a_text": 0.02})
    assert line([], []) is None


def test_summary_fits_what_was_measured() -> None:
    found = benchmark_results.growth()
    assert found["length"]["train"]["time"]["slope"] == pytest.approx(0.9)
    assert found["length"]["train"]["memory"]["slope"] == pytest.approx(0.1, abs=1e-4)
    assert found["batch"]["score"]["time"]["slope"] == pytest.approx(0.9)
    assert len(found["batch"]["score"]["points"]) == 3
    texts = found["texts"]["score"]
    assert texts["time"]["slope"] == pytest.approx(1.0)
    assert texts["line"] == pytest.approx({"start_up": 8.0, "seconds_a_text": 0.02})
    assert texts["hours"]["1000000000"] == pytest.approx(2e7 / 3600, rel=1e-6)


def test_one_point_alone_has_no_fit() -> None:
    found = growth.summary({"texts": {"score": [Reading(100.0, 0.02, 10.0, 10**9)]}})
    assert found["texts"]["score"]["time"] is None
    assert found["texts"]["score"]["hours"] == {"10000000": None, "1000000000": None}


def test_the_plan_takes_the_largest_shape_from_the_other_group(tmp_path: Path) -> None:
    rows = Split("train", ("text",) * 1000, (0,) * 1000)
    shapes = {"mistral-300m-shape": tmp_path / "m", "tinyllama-shape": tmp_path / "t"}

    def trained(*, measured_1b: bool) -> int:
        points = growth.plan(rows, shapes, full=False, measured_1b=measured_1b)
        return sum(point.axis == "parameters" and point.job == "train" for point in points)

    assert trained(measured_1b=True) == 2
    assert trained(measured_1b=False) == 3


def test_points_are_measured_and_failures_noted(tmp_path: Path) -> None:
    def point(axis: str, name: str, kind: str = "Steady", **options: object) -> growth.Point:
        chosen = {"name": name, "journal": str(tmp_path / "journal"), **options}
        return growth.Point(axis, "score", 100, Contest(name, f"tests.helpers.fake_contestants:{kind}", name, chosen))

    points = [
        point("texts", "alone"),
        point("batch", "one"),
        point("batch", "dies", dies_at=1),
        point("batch", "unknown", "NoSuchClass"),
    ]
    said: list[str] = []
    found = growth.measure(points, tmp_path / "logs", said.append)
    one, dies, unknown = found["batch"]["score"]
    assert (one.x, one.seconds_a_text, one.error) == (100.0, 0.2, None)
    assert "exit code 3 at round" in (dies.error or "")
    assert "NoSuchClass" in (unknown.error or "")
    (alone,) = found["texts"]["score"]
    assert alone.total_seconds is not None
    assert alone.total_seconds > 0
    assert len(said) == 7, "three are ready, two have run, two have failed"
