"""Render the Jinja templates of report and cards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from whinchat.report.visible_text import visible
from whinchat.wording import counted

TEMPLATES = Path(__file__).with_name("templates")


def render_template(template: str, escape: Callable[[Any], Any] | None, /, **values: Any) -> str:
    """Render a template; a name that ``values`` does not hold raises an error.

    Args:
        template: name of a file in ``templates/``.
        escape: applied to every value that the template writes; None escapes for HTML.
        values: the variables of the template, which has ``counted`` besides.
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
    environment.globals["counted"] = counted
    return visible(environment.get_template(template).render(values))
