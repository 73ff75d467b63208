"""The macro of a fixed date writes what Python's strftime writes."""

from __future__ import annotations

from datetime import date, datetime, time

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from whinchat.prompts.fixed_date import fix_date, fixed_date, without_fixed_date

DAYS = (date(2024, 3, 5), date(2026, 11, 25), date(2031, 1, 1), date(1999, 12, 31))
FORMATS = (
    "%d %b %Y", "%Y-%m-%d", "%-d %B %Y", "%A, %e %B %y", "%D %F %T %R %r", "%H:%M:%S.%f %p %I", "%j %U %W %V %G %u %w",
    "100%% on %d", "%%Y %%%Y %%%%Y", "", "%", "no directive", "%q and %d", "%z|%Z|%n|%t|%c|%x|%X", "%_d %^b %#A %Ex",
)  # fmt: skip


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("text", FORMATS)
def test_every_format_is_that_of_python(day: date, text: str) -> None:
    source = fix_date(f"\n  {{{{ strftime_now({text!r}) }}}}{{% if strftime_now is defined %}}!{{% endif %}}", day)
    rendered = render_jinja_template([[]], chat_template=source)[0][0]
    assert rendered == f"\n  {datetime.combine(day, time()).strftime(text)}!"


def test_a_format_from_several_strings_and_inside_a_macro() -> None:
    ask = "{% set f = '%d' ~ '.' ~ '%m.' %}{% macro today() %}{{ strftime_now(f ~ '%Y') }}{% endmacro %}"
    source = ask + "{{ today() + '!' }}"
    assert render_jinja_template([[]], chat_template=fix_date(source, DAYS[0]))[0][0] == "05.03.2024!"


def test_the_date_can_be_read_and_taken_out_again() -> None:
    source = "{% set a = 1 %}\n{{ strftime_now('%d') }}"
    fixed = fix_date(source, DAYS[1])
    assert (fixed_date(fixed), without_fixed_date(fixed)) == (DAYS[1], source)
    assert (fixed_date(source), without_fixed_date(source)) == (None, source)
    assert len(fixed.splitlines()) == len(source.splitlines()) + 1
    later = "{% set thinking = false %}\n" + fixed
    assert fixed_date(later) == DAYS[1], "other lines may come first"
