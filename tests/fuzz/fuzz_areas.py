"""All areas."""

from __future__ import annotations

from tests.fuzz.model_files import FILE_AREA
from tests.fuzz.prompts import PROMPT_AREA
from tests.fuzz.recipes import RECIPE_AREA
from tests.fuzz.requests import REQUEST_AREA
from tests.fuzz.tables import TABLE_AREA

AREAS = {area.name: area for area in (RECIPE_AREA, TABLE_AREA, PROMPT_AREA, FILE_AREA, REQUEST_AREA)}
