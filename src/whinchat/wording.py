"""Words that messages, reports and logs share."""


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as "1 text" or "1,200 texts"; ``noun`` is one that takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
