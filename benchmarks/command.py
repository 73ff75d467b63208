"""The command line: measure, then write JSON, tables and figures."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plan import GROUPS, Sizes
from benchmarks.run import run_all
from benchmarks.tables import publish, write
from whinchat.errors import WhinchatError

RESULTS = Path("benchmarks/results")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure whinchat and its peers.")
    parser.add_argument("--full", action="store_true", help="all contestants and points, more rounds (over an hour)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure only this group; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each contestant (6 if time allows; 5 with --full)")
    parser.add_argument("--texts", type=int, help="texts in a training round (64; 128 with --full)")
    parser.add_argument("--data", help="a TweetEval sentiment folder; else $WHINCHAT_TWEETEVAL, ../shared, VADER")
    parser.add_argument("--out", type=Path, help="the JSON file to write; tables and figures go beside it")
    parser.add_argument("--threads", type=int, help="threads of each contestant; all cores by default")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write tables and figures of this file")
    parser.add_argument("--publish", action="store_true", help="also write docs/benchmarks.md and its images")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which is 1 where a contestant failed."""
    options = parse(arguments)
    if options.render:
        result, out = json.loads(options.render.read_text(encoding="utf-8")), options.render
    else:
        texts = options.texts or (128 if options.full else 64)
        sizes = Sizes(options.rounds or (5 if options.full else 6), texts, max(256, 2 * texts), options.full)
        groups = tuple(group for group in GROUPS if not options.only or group in options.only)
        # Results of some of the groups must not replace the latest results of all.
        out = options.out or RESULTS / ("latest.json" if groups == GROUPS else f"{'-'.join(groups)}.json")
        try:
            result = run_all(sizes, groups, out, data=options.data, threads=options.threads)
        except WhinchatError as fault:
            print(f"error: {fault}", file=sys.stderr)
            return 1
    for path in [*write(result, out), *(publish(result) if options.publish else ())]:
        print(path)
    for failure in result["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if result["failures"] else 0
