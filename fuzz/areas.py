"""What is fuzzed, how many cases are run, and what came of them."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from whinchat.errors import WhinchatError

# A case that takes longer is a finding, whatever its outcome. Processor time, so that other work does not count.
SLOWEST_SECONDS = 5.0
# Each round has a seed of its own, so that a finding is repeated without the rounds before it.
ROUND_CASES = 1_000
# Findings whose case is kept; more of the same place are counted only.
_LONGEST_CASE = 4_000


class Check(Protocol):
    """Puts a case to the software and checks what came of it."""

    def __call__(self, case: Any) -> None:
        """Return if the case was accepted and its result is right.

        Raises:
            WhinchatError: the case was refused with an error for users.
            AssertionError: the result is wrong.
        """


@dataclass(frozen=True)
class FuzzArea:
    """One area.

    Attributes:
        name: name of the area.
        cases: strategy of the cases.
        open: makes the check, with what it needs for all cases: a folder of its own, a model, a server.
        share: share of the cases of a run that this area gets.
    """

    name: str
    cases: SearchStrategy[Any]
    open: Callable[[Path], AbstractContextManager[Check]]
    share: float


@dataclass(frozen=True)
class Finding:
    """A case with a wrong result, an unexpected exception, or a time beyond the limit."""

    where: str
    error: str
    case: str
    seed: int


@dataclass
class Tally:
    """Outcomes of one area's cases.

    Attributes:
        outcomes: number of cases by outcome: accepted, refused, found.
        findings: the first finding of each kind, by the place of its error.
        repeats: number of findings of each kind.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def put(self, check: Check, case: Any, case_seed: int) -> None:
        """Run one case and count its outcome."""
        start = time.process_time()
        try:
            check(case)
        except WhinchatError as refusal:
            outcome = "refused"
            # A refusal is one sentence for a person, not a dump.
            if not str(refusal).strip() or "Traceback" in str(refusal):
                outcome = self._found(f"message of {type(refusal).__name__}", repr(refusal), case, case_seed)
        except Exception as fault:  # noqa: BLE001  # whatever a case brings up is what fuzzing looks for
            outcome = self._found(_place(fault), f"{type(fault).__name__}: {fault}", case, case_seed)
        else:
            outcome = "accepted"
        if time.process_time() - start > SLOWEST_SECONDS:
            outcome = self._found("slow", f"took more than {SLOWEST_SECONDS} s", case, case_seed)
        self.outcomes[outcome] += 1

    def _found(self, where: str, error: str, case: Any, case_seed: int) -> str:
        self.repeats[where] += 1
        self.findings.setdefault(where, Finding(where, error[:500], repr(case)[:_LONGEST_CASE], case_seed))
        return "found"


def _place(fault: BaseException) -> str:
    """Return the kind of an error and the last line of our own code that it went through."""
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if "whinchat" in frame.filename.rpartition("site-packages")[2]] or frames
    name = Path(own[-1].filename).name
    return f"{type(fault).__name__} at {name}:{own[-1].lineno}"


def run_area(area: FuzzArea, folder: Path, cases: int, first_seed: int) -> Tally:
    """Run ``cases`` cases of an area with hypothesis, in rounds of ``ROUND_CASES``."""
    tally, start = Tally(), time.perf_counter()
    with area.open(folder) as check:
        for number, done in enumerate(range(0, cases, ROUND_CASES)):
            _run_round(area, partial(tally.put, check), min(ROUND_CASES, cases - done), first_seed + number)
    tally.seconds = time.perf_counter() - start
    return tally


def _run_round(area: FuzzArea, put: Callable[[Any, int], None], cases: int, round_seed: int) -> None:
    """Draw ``cases`` cases and put them to the check; the same seed draws the same cases."""

    @seed(round_seed)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(area.cases)
    def put_all(case: Any) -> None:
        put(case, round_seed)

    put_all()
