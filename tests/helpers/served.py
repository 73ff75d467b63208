"""Limits of the server under test, small enough to reach."""

from __future__ import annotations

from whinchat.server.api_schema import Limits

LIMITS = Limits(max_chars=60, max_texts=40, max_waiting=40, max_table_bytes=20_000)
