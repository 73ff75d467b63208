"""A small sample of every fuzzed area, the same in each run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.areas import run_area
from fuzz.fuzz_areas import AREAS

CASES = 60


@pytest.mark.parametrize("name", AREAS)
def test_a_sample_has_no_finding(name: str, tmp_path: Path) -> None:
    tally = run_area(AREAS[name], tmp_path, CASES, first_seed=0)
    assert not tally.findings, "\n".join(f"{finding.where}: {finding.error}" for finding in tally.findings.values())
    # Neither everything nor nothing is refused, or the area tests too little.
    assert tally.outcomes["accepted"] > 0
    assert name == "prompts" or tally.outcomes["refused"] > 0
