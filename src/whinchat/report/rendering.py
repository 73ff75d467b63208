"""Jinja templates of the report and the cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def render_template(template: str, escape: Callable[[Any], Any] | None, /, **values: Any) -> str:
    """A template with ``values``; what it does not find among them is an error.

    Args:
        template: a file of ``templates/``.
        escape: done to each value that is written; None escapes HTML.
        values: by the names that the template uses.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape is None,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
