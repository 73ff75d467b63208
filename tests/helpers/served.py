"""Limits of the server under test, small enough to reach, and clients of an application."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from whinchat.server.api_schema import Limits

LIMITS = Limits(max_chars=60, max_texts=40, max_waiting=40, max_table_bytes=20_000)


def client_of(app: FastAPI, **options: Any) -> TestClient:
    """Return a client that asks the application by a name that it knows."""
    return TestClient(app, base_url="http://localhost", **options)
