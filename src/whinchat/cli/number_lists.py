"""Options that take several numbers, as in ``--ranks 8 16 32``."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from typer.core import TyperCommand

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class NumberListsCommand(TyperCommand):
    """A command whose repeatable options take all numbers that follow them, beside being repeatable."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Repeat each of these options before every further number, then parse as any command does."""
        repeatable = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, repeat_options(args, repeatable))


def repeat_options(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Return ``arguments`` with each of ``options`` repeated before every number but the first that follows it."""
    repeated: list[str] = []
    option, follows = "", 0
    for position, argument in enumerate(arguments):
        if argument == "--":
            return repeated + list(arguments[position:])
        if argument in options:
            option, follows = argument, 0
        elif option and _NUMBER.fullmatch(argument):
            follows += 1
            if follows > 1:
                repeated.append(option)
        else:
            option = ""
        repeated.append(argument)
    return repeated
