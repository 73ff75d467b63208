"""The error messages of ``whinchat serve``; tests/server tests the running server."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.helpers.command_line import Whinchat


def test_an_address_in_use(whinchat: Whinchat, a_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = whinchat("serve", a_run, "--port", str(port))
    assert result.code == 2
    assert f"127.0.0.1:{port}: cannot be listened on (Address already in use)" in result.err


def test_a_missing_run_folder(whinchat: Whinchat, tmp_path: Path) -> None:
    result = whinchat("serve", tmp_path / "none", "--port", "0")
    assert result.code == 2
    assert "no such run folder" in result.err
