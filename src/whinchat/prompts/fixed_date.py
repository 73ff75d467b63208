"""Fix the date that a chat template writes, so that a classifier gets the same prompts on every day.

Chat templates ask for today's date by ``strftime_now(FORMAT)``, a function that transformers and other programs give
them. A macro of that name in front of the template replaces the function, so every program that renders the template
writes the fixed date.
"""

import json
import re
from datetime import date, datetime, time

# The directives that Python and the C standard document, and those of glibc.
_DIRECTIVES = tuple(f"%{letter}" for letter in "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZf")
# Directives with flags, such as %-d for a day without leading zero.
_FLAGGED = re.compile(r"%[-_0^#+]+[EO]?[A-Za-z]|%[EO][A-Za-z]")
_LINE = re.compile(r"^\{# In every prompt, today is (\d{4}-\d\d-\d\d)\. #\}[^\n]*\n", re.MULTILINE)


def fixed_date(template: str) -> date | None:
    """Return the date that ``fix_date`` wrote into ``template``; None for any other template."""
    line = _LINE.search(template)
    return date.fromisoformat(line[1]) if line else None


def without_fixed_date(template: str) -> str:
    """Return ``template`` as it was before ``fix_date``; a template without a fixed date stays as it is."""
    return _LINE.sub("", template)


def fix_date(template: str, day: date) -> str:
    """Return ``template`` with a first line that makes ``day`` the date of every prompt, at midnight.

    The macro knows the documented directives and all with flags that the template contains. A directive that it does
    not know stays as it is, as with Python's ``strftime``.

    Args:
        template: source of a chat template, without a fixed date.
        day: the date.
    """
    midnight = datetime.combine(day, time())
    # A directive that this platform does not know gives itself, or nothing.
    values = {code: midnight.strftime(code) for code in sorted({*_DIRECTIVES, *_FLAGGED.findall(template)})}
    known = {code: value for code, value in values.items() if value not in {code, code[1:]}}
    # Replaced between the "%%", each of which stands for one "%"; no value contains a "%".
    macro = (
        "{% macro strftime_now(format) %}"
        "{%- for part in format.split('%%') -%}"
        "{%- set written = namespace(text=part) -%}"
        f"{{%- for code, value in {json.dumps(known)}.items() if code in part -%}}"
        "{%- set written.text = written.text.replace(code, value) -%}"
        "{%- endfor -%}"
        "{{- written.text if loop.first else '%' + written.text -}}"
        "{%- endfor -%}"
        "{% endmacro %}"
    )
    return f"{{# In every prompt, today is {day.isoformat()}. #}}{macro}\n{template}"
