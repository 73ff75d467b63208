"""CPU seconds of the commands that a user waits for: refusals, lists and a single text.

    python -m benchmarks.command_cpu runs/demo

Each command runs as its own process, once unmeasured and then three times, and the smallest sum of user and system time
counts: what other processes do adds to it and never lowers it. The output is a Markdown table to paste.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import machine, provenance
from benchmarks.markdown import markdown_table

ROUNDS = 3


def commands(run: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return the measured commands: what each shows -> its exit code and its arguments."""
    name = str(run)
    return {
        "`whinchat --help`": (0, ("--help",)),
        "`whinchat runs`": (0, ("runs", str(run.parent))),
        "`whinchat run`, refused: the folder holds a run": (2, ("run", "demo", "--out", name)),
        "`whinchat run`, refused: no such column": (
            2, ("run", name, "--out", "new", "--set", "data.source=rows.csv", "--set", "data.text_column=nothing"),
        ),
        "`whinchat evaluate`, refused: no such file": (2, ("evaluate", name, "--data", "nofile.csv")),
        "`whinchat export`, refused: no such format": (2, ("export", name, "--to", "pdf")),
        "`whinchat serve`, refused: no such run": (2, ("serve", "nowhere", "--port", "0")),
        '`whinchat predict RUN "a text"`': (0, ("predict", name, "what a lovely day")),
    }  # fmt: skip


def cpu_seconds(arguments: Sequence[str], expected_code: int, folder: Path) -> float:
    """Return user and system time of one ``whinchat`` process, its own child processes included.

    Raises:
        RuntimeError: the command ended with another exit code.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "whinchat", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != expected_code:
        raise RuntimeError(f"whinchat {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every command and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.command_cpu", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run")
    run = parser.parse_args(arguments).run.resolve()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.csv").write_text("text,label\nwhat a lovely day,positive\n", encoding="utf-8")
        for shown, (code, words) in commands(run).items():
            seconds = [cpu_seconds(words, code, folder) for _ in range(ROUNDS + 1)]
            rows.append((shown, f"{min(seconds[1:]):.1f}"))
    facts, origin = machine(), provenance("python -m benchmarks.command_cpu")
    load = facts["load_before"][0]
    print(f"{facts['processor']}, {facts['cores']} cores, load average {load:.1f}; commit {origin['commit']}\n")
    print(markdown_table(("command", "CPU seconds"), rows))


if __name__ == "__main__":
    main()
