"""Try out a tokenizer or a chat template in a process of its own, with limits of processor time and memory.

This file is a script (``python -P trial_script.py KIND SECONDS MEGABYTES``) that reads one file from standard input:
a tokenizer.json if KIND is "tokenizer", else a JSON object with the source of a chat template and the variables that it
may read. It prints a line that begins with "passed", or what went wrong.
"""

import json
import sys
from datetime import date
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

PASSED = "passed"
# A template can refuse a chat by an error of Jinja, its own ``raise_exception`` among them, or by one of Python's.
TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
# Characters of a chat around texts of 2,000 characters; chat templates write some hundred.
_LONGEST_CHAT = 1_000_000
# Texts on which a pattern that backtracks takes long: runs of one kind of character, with another one behind them.
_RUNS = tuple(
    (unit * 2_000)[:2_000] + "!~" for unit in ("a", "A", " ", "\n", "1", ".", "é", "日", "aA", "a ", " 1.", "'s")
)
_TEXT = "A text of several lines, 12 of them.\n\n\t- with <tags> and [marks] ***\n" * 28


class GenerationTag(Extension):
    """The tag of transformers around what a model generates; here only its content counts."""

    tags = {"generation"}  # noqa: RUF012  # the attribute of Jinja's class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the content of the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def try_template(source: str, variables: dict[str, Any]) -> None:
    """Render chats of up to five turns. A template may refuse them, by any error but one of depth or memory.

    Raises:
        RecursionError, MemoryError: as the template causes them.
        ValueError: it writes a chat that is much too long.
    """

    def refuse(message: str) -> None:
        raise TemplateError(message)

    extensions = [GenerationTag, "jinja2.ext.loopcontrols"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = json.dumps
    environment.globals |= {"raise_exception": refuse, "strftime_now": date.today().strftime}
    turns = [{"role": role, "content": _TEXT} for role in ("system", "user", "assistant", "user", "assistant")]
    try:
        template = environment.from_string(source)
    except TemplateError:
        return  # whoever renders the template says what is wrong with it
    for first, last in ((0, 2), (0, 3), (0, 4), (0, 5), (1, 2), (1, 3), (1, 4)):
        for asks in (True, False):
            try:
                chat = template.render(messages=turns[first:last], add_generation_prompt=asks, **variables)
            except TEMPLATE_FAULTS:
                continue
            if len(chat) > _LONGEST_CHAT:
                raise ValueError(f"it writes {len(chat):,} characters for a chat of {len(turns)} turns")


def try_tokenizer(content: bytes) -> None:
    """Load a tokenizer and encode hard texts of 2,000 characters. A file that cannot be read is no failure here."""
    from tokenizers import Tokenizer  # a chat template needs no tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception:  # noqa: BLE001  # tokenizers raises Exception itself; whoever loads the file says what is wrong
        return
    for run in _RUNS:
        tokenizer.encode(run)


def _limit(seconds: int, megabytes: int) -> None:
    if sys.platform != "win32":
        import resource  # Windows has no such module; there, the parent's clock is the only limit

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def try_out() -> None:
    """Read the file, try it out, and print the outcome."""
    kind, seconds, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _limit(seconds, megabytes)
    content = sys.stdin.buffer.read()
    try:
        if kind == "tokenizer":
            try_tokenizer(content)
        else:
            try_template(**json.loads(content))
    except RecursionError:
        print("it is nested too deeply")
    except MemoryError:
        print(f"it takes more than {megabytes} MB of memory")
    except ValueError as error:
        print(error)
    else:
        print(PASSED)


if __name__ == "__main__":
    try_out()
