"""All areas."""

from __future__ import annotations

from fuzz.answers import ANSWER_AREA
from fuzz.model_files import FILE_AREA
from fuzz.prompts import PROMPT_AREA
from fuzz.questions import QUESTION_AREA
from fuzz.recipes import RECIPE_AREA
from fuzz.requests import REQUEST_AREA
from fuzz.tables import TABLE_AREA

_ALL = (RECIPE_AREA, TABLE_AREA, ANSWER_AREA, PROMPT_AREA, FILE_AREA, REQUEST_AREA, QUESTION_AREA)
AREAS = {area.name: area for area in _ALL}
