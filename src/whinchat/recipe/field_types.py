"""The base of recipe sections, and the types of their keys: finite numbers, text that can be written, days."""

import datetime
import math
import numbers
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic_core import PydanticCustomError

# The largest number of a recipe: random generators take seeds of 32 bits, and nothing else needs as much.
MOST = 2**32 - 1
LONGEST_NAME = 200
# Characters that join others into one, as in emoji and in Persian, and the letters of flags.
_JOINERS = {0x200C, 0x200D, *range(0xE0020, 0xE0080)}


class Section(BaseModel):
    """Base of every section of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # Python counts True as 1, so a YAML "yes" would pass
        raise PydanticCustomError("number_type", "Input should be a number")
    number = value
    if isinstance(value, numbers.Real):  # a number of numpy, too
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
    try:
        size = abs(float(number))
    except OverflowError:
        size = MOST + 1.0
    except (TypeError, ValueError):
        return value  # no number, which pydantic explains
    if not math.isfinite(size):
        raise PydanticCustomError("finite_number", "Input should be a finite number")
    if size > MOST:
        raise PydanticCustomError("too_large", "Input should be at most {most}", {"most": f"{MOST:,}"})
    return number


def _rows(value: Any) -> Any:
    """Return a number of rows as an integer, and a share of rows as a float."""
    number = _number(value)
    if not isinstance(number, int | float):
        return value  # null, or a word that the key allows
    if number >= 1 and number == int(number):
        return int(number)
    if 0 < number < 1:
        return float(number)
    raise PydanticCustomError("rows", "Input should be a number of rows from 1 on, or a share of them below 1")


def _day(value: Any) -> Any:
    if isinstance(value, int | float):  # pydantic would count the seconds since 1970
        raise PydanticCustomError("date_type", "Input should be a day such as 2026-01-31")
    if not isinstance(value, str):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("date_type", "Input should be a day such as 2026-01-31") from None


def character_fault(text: str) -> str | None:
    """Return why ``text`` cannot be written into a file, or None: it holds half a character, or a control character."""
    return _first_fault(text, lambda letter: letter not in "\t\n\r" and unicodedata.category(letter) in {"Cc", "Cs"})


def name_fault(text: str) -> str | None:
    """Return why ``text`` cannot be a name such as a label, or None.

    A name is one line that can be seen: without control characters, marks of writing direction and the like.
    """
    if len(text) > LONGEST_NAME:
        return f"has {len(text):,} characters; a name has {LONGEST_NAME} at most"
    return _first_fault(text, _is_unseen)


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and ord(letter) not in _JOINERS


def _first_fault(text: str, is_bad: Any) -> str | None:
    for position, letter in enumerate(text):
        if is_bad(letter):
            code = f"U+{ord(letter):04X}"
            if unicodedata.category(letter) == "Cs":
                return f"holds half a character ({code}) at position {position}, often an emoji cut in two; repair it"
            name = unicodedata.name(letter, "a control character")
            return f"holds {code} ({name}) at position {position}, which cannot be seen; remove it"
    return None


def repeated_words(words: Iterable[str], form: Literal["NFC", "NFKC"]) -> list[str]:
    """Return the words that occur more than once, where a Unicode normalization ``form`` tells words apart."""
    counts = Counter(unicodedata.normalize(form, word) for word in words)
    return sorted(word for word, count in counts.items() if count > 1)


def _writable(text: str) -> str:
    if fault := character_fault(text):
        raise PydanticCustomError("unwritable", "{fault}", {"fault": fault})
    return text


def _visible(text: str) -> str:
    if fault := name_fault(text):
        raise PydanticCustomError("unwritable", "{fault}", {"fault": fault})
    return text


Integer = Annotated[int, BeforeValidator(_number)]
Seed = Annotated[Integer, Field(ge=0)]
Real = Annotated[float, BeforeValidator(_number)]
# A number of rows, or a share of the rows that there are.
Rows = Annotated[int | float | None, BeforeValidator(_rows)]
# The same, or as the source and the other keys have it.
AutoRows = Annotated[int | float | Literal["auto"] | None, BeforeValidator(_rows)]
Day = Annotated[datetime.date, BeforeValidator(_day), PlainSerializer(datetime.date.isoformat)]
# Text of any number of lines; text that is not blank; and one line that names something.
Text = Annotated[str, AfterValidator(_writable)]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_writable)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_visible)]
# Name of a run, which names its folder, too.
FolderName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$", max_length=LONGEST_NAME)]
# Name of a layer, or the end of one such as self_attn.q_proj. A name is compared, never read as a pattern.
LayerName = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=LONGEST_NAME)]
