"""Requests that schemathesis makes from /openapi.json, valid and invalid, are each answered as the schema says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.served import LIMITS, serving
from whinchat.server.served_models import ModelHost

pytestmark = pytest.mark.slow


def test_schemathesis_finds_nothing(host: ModelHost, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed; `pip install -e '.[dev]'`")
    # No schema says what a table holds, and which columns it must have; or that a question has words to read.
    unknown = (
        f'[[operations]]\ninclude-path = "/v1/{name}"\nchecks.positive_data_acceptance.enabled = false\n'
        for name in ("table", "columns", "systemone")
    )
    (tmp_path / "schemathesis.toml").write_text("".join(unknown), encoding="utf-8")
    with serving(host, LIMITS) as served:
        address = f"http://127.0.0.1:{served.port}/openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", address, "--max-examples", "100"]
        done = subprocess.run(
            [*command, "--seed", "1", "--no-color"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
    assert "generated" in done.stdout
