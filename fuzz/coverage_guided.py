"""Fuzz one area with atheris, which changes cases so that they reach new lines of whinchat.

``python -m fuzz.coverage_guided AREA [FOLDER_OF_CASES] [-atheris_runs=N] [options of libFuzzer]``
draws from the same strategies and makes the same checks as ``python -m fuzz``; ``make fuzz-guided`` installs
atheris. Stops at the first finding and keeps the bytes that draw it again.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
from hypothesis import HealthCheck, given, settings

with atheris.instrument_imports(include=["whinchat"]):
    from fuzz.areas import Tally
    from fuzz.fuzz_areas import AREAS


def main() -> None:
    """Fuzz the area that the first argument names."""
    area = AREAS[sys.argv.pop(1)]
    tally = Tally()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="whinchat-fuzz-") as folder, area.open(Path(folder)) as check:

        @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(area.cases)
        def put(case: Any) -> None:
            tally.put(check, case, 0)
            for finding in tally.findings.values():
                raise AssertionError(f"{finding.where}: {finding.error}\n{finding.case}")

        atheris.Setup(sys.argv, put.hypothesis.fuzz_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
