"""The commands of ``whinchat``, looked up as the documents show them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import typer

from whinchat.cli.app import app


@cache
def program() -> Any:
    """Return the ``whinchat`` command with all its commands."""
    return typer.main.get_command(app)


def find_command(arguments: list[str]) -> tuple[Any, list[str]] | None:
    """Return the command that is called and what follows its name; None where no name is given."""
    command = program()
    rest = list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest[0].rstrip(".,:")
        if name not in command.commands:
            # "whinchat 0.1.0", "whinchat RUN" in prose; a lower-case word is a command that should exist.
            assert not re.fullmatch(r"[a-z]+", name), f"`whinchat {' '.join(arguments)}`: no command {name}"
            return None
        command, rest = command.commands[name], rest[1:]
    return command, rest
