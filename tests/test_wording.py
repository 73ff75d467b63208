"""Words that messages, reports and logs share."""

from whinchat.wording import counted


def test_one_thing_is_singular() -> None:
    assert (counted(1, "text"), counted(0, "row"), counted(1200, "text")) == ("1 text", "0 rows", "1,200 texts")
