"""``whinchat serve`` refuses to start in one line; tests/server has the running server."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.helpers.command_line import Whinchat


def test_an_address_that_is_taken(whinchat: Whinchat, a_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = whinchat("serve", a_run, "--port", str(port))
    assert said.code == 2
    assert f"127.0.0.1:{port}: cannot be listened on (Address already in use)" in said.err


def test_no_run_there(whinchat: Whinchat, tmp_path: Path) -> None:
    said = whinchat("serve", tmp_path / "none", "--port", "0")
    assert said.code == 2
    assert "no such run folder" in said.err
