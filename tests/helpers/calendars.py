"""Another day, for whinchat and for the chat templates that transformers renders."""

from __future__ import annotations

import datetime

import pytest
from transformers.utils import chat_template_utils

from whinchat.prompts import chat_format


class Calendar:
    """Sets the day that chat templates and new classifiers take for today."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def set(self, year: int, month: int, day: int) -> None:
        """Make this day today."""

        class Date(datetime.date):
            @classmethod
            def today(cls) -> datetime.date:  # type: ignore[override]  # a plain date, as the real one returns
                return datetime.date(year, month, day)

        class Moment(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
                return datetime.datetime(year, month, day, 12, tzinfo=tz)

        self._monkeypatch.setattr(chat_format, "date", Date)
        self._monkeypatch.setattr(chat_template_utils, "datetime", Moment)
