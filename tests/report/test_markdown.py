"""Text of users and models is shown as it is."""

from __future__ import annotations

from whinchat.report.markdown import escape, fence


def test_escaping_and_fences() -> None:
    assert escape("a|b\n<i> $x$ #1") == r"a\|b &lt;i&gt; &#36;x&#36; \#1"
    assert escape(escape("a|b")) == escape("a|b")
    assert fence("```\nx\n````", "yaml").startswith("`````yaml\n")
