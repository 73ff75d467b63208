"""``python -m benchmarks``: measure, then write JSON, tables and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plan import GROUPS, Sizes
from benchmarks.report import publish, read, write
from benchmarks.run import run_all
from whinchat.errors import WhinchatError

RESULTS = Path("benchmarks/results")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="whinchat and its peers, side by side")
    parser.add_argument(
        "--full", action="store_true", help="all contestants, all points, more rounds (well over an hour)"
    )
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group alone; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of every contestant (6, where time allows; with --full 5)")
    parser.add_argument("--texts", type=int, help="texts of a training round (64; with --full 128)")
    parser.add_argument("--data", help="a TweetEval sentiment folder; else $WHINCHAT_TWEETEVAL, ../shared, VADER")
    parser.add_argument("--out", type=Path, help="the JSON file; tables and figures go beside it")
    parser.add_argument("--threads", type=int, help="threads of every worker; by default all cores")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing; tables and figures of this file")
    parser.add_argument("--publish", action="store_true", help="also write docs/benchmarks.md and its images")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a contestant failed."""
    options = parse(arguments)
    if options.render:
        result, out = read(options.render), options.render
    else:
        texts = options.texts or (128 if options.full else 64)
        sizes = Sizes(options.rounds or (5 if options.full else 6), texts, max(256, 2 * texts), options.full)
        groups = tuple(group for group in GROUPS if not options.only or group in options.only)
        # A part of the contestants must not pass for the latest whole.
        out = options.out or RESULTS / ("latest.json" if groups == GROUPS else f"{'-'.join(groups)}.json")
        try:
            result = run_all(sizes, groups, out, data=options.data, threads=options.threads)
        except WhinchatError as fault:
            print(f"error: {fault}", file=sys.stderr)
            return 1
    for path in write(result, out):
        print(path)
    if options.publish:
        for path in publish(result):
            print(path)
    for failure in result["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
