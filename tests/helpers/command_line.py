"""The command line as a program sees it: arguments in; exit code, output and messages out."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from whinchat import progress
from whinchat.cli import main


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str


Whinchat = Callable[..., CommandResult]


def command_runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Whinchat:
    """Return a function that runs ``whinchat ARGUMENTS`` through its real entry point, in this process."""

    def call(*arguments: str | Path, stdin: bytes | None = None) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["whinchat", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        # The program sets these variables for its process, which here is that of all tests.
        for name, value in (("PYTHONSAFEPATH", "1"), ("OMP_WAIT_POLICY", "PASSIVE"), ("TORCHDYNAMO_DISABLE", "1")):
            monkeypatch.setenv(name, value)
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as exit_info:
                main()
        finally:
            # The command line shows progress; whatever else this test process does stays silent.
            progress.logger.setLevel(logging.NOTSET)
            progress.logger.handlers.clear()
            progress.logger.propagate = True
        captured = capsys.readouterr()
        code = exit_info.value.code
        return CommandResult(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call
