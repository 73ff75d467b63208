"""Fuzz every area and print a table: ``python -m fuzz --cases 100000 --seed 1``.

Findings are written to ``--out``, one file each with the case and the seed that draws it again. The exit code is 1 if
there is any finding.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from fuzz.areas import Tally, run_area
from fuzz.fuzz_areas import AREAS


def _row(name: str, seeds: str, tally: Tally) -> str:
    counts = [tally.outcomes[outcome] for outcome in ("accepted", "refused", "found")]
    cells = [name, f"{sum(counts):,}", *(f"{count:,}" for count in counts), seeds, f"{tally.seconds:,.0f} s"]
    return f"| {' | '.join(cells)} |"


def _write_findings(name: str, tally: Tally, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for number, finding in enumerate(tally.findings.values(), start=1):
        repeats = tally.repeats[finding.where]
        text = f"{finding.where} ({repeats} times)\nseed {finding.seed}\n{finding.error}\n\n{finding.case}\n"
        (out / f"{name.replace(' ', '-')}-{number}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        print(f"  found: {finding.where}, {repeats} times, seed {finding.seed}: {finding.error[:200]}", flush=True)


def main() -> int:
    """Run the areas and print the table; return 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("areas", nargs="*", default=[*AREAS], help=f"areas to fuzz: {', '.join(AREAS)}")
    parser.add_argument("--cases", type=int, default=100_000, help="cases in all; each area has its share")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round of each area")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder of the findings")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print("| area | cases | accepted | refused | findings | seeds | time |")
    print("|---|---:|---:|---:|---:|---|---:|", flush=True)
    found = False
    chosen = [AREAS[name] for name in options.areas]
    total = sum(area.share for area in chosen)
    for area in chosen:
        cases = round(options.cases * area.share / total)
        with tempfile.TemporaryDirectory(prefix="whinchat-fuzz-") as folder:
            tally = run_area(area, Path(folder), cases, options.seed)
        print(_row(area.name, f"{options.seed} to {options.seed + max(0, cases - 1) // 1000}", tally), flush=True)
        _write_findings(area.name, tally, options.out)
        found |= bool(tally.findings)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
