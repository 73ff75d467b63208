"""Figures are drawn here, and blank in all other tests."""

from __future__ import annotations

import pytest

from tests.helpers.quick_figures import DRAWN
from whinchat.report.figures.run_figures import FigureSpec


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, method in DRAWN.items():
        monkeypatch.setattr(FigureSpec, name, method)
