"""How tables are printed on narrow and wide terminals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from whinchat.cli import output
from whinchat.report.text_table import TextTable

COLUMNS = ("run", "macro-F1 before", "macro-F1 after", "peak memory")
ROWS = (("first", "0.212", "0.733 (0.712–0.754)", "5.45 GiB"), ("second [bold]", "0.209", "0.728", "3.1 GiB"))


def printed(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: tuple[tuple[str, ...], ...] = ROWS, *, terminal: bool = True
) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, no_color=True, color_system=None)
    monkeypatch.setattr(output, "out", console)
    output.print_table(TextTable("Runs", COLUMNS, rows))
    lines = file.getvalue().splitlines()
    assert not terminal or all(len(line) <= width for line in lines)
    return lines


def test_a_table_that_fits_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 100)
    assert all(name in lines[1] for name in COLUMNS)
    assert all(cell in lines[4] for cell in ROWS[1])


def test_a_table_that_is_too_wide_is_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 60)
    assert all(row[0] in lines[1] for row in ROWS)
    for index, name in enumerate(COLUMNS[1:], start=1):
        assert any(all(cell in line for cell in (name, ROWS[0][index], ROWS[1][index])) for line in lines)


def test_a_long_table_breaks_cells_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 66, ROWS * 5)
    assert sum(line[1:].lstrip().startswith("first") for line in lines) == 5
    words = [word for line in lines for word in line.split()]
    assert all(words.count(word) == 5 for word in ("0.733", "(0.712–0.754)", "[bold]", "3.1"))
    assert "macro-F1" in words


def test_a_table_without_room_has_a_block_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 45, ROWS * 5)
    for index, name in enumerate(COLUMNS):
        cells = [line.split("│")[2].strip() for line in lines if line.startswith(f"│ {name} ")]
        assert cells == [row[index] for row in ROWS * 5]


def test_a_pipe_gets_one_line_for_each_row_with_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (*ROWS, ("two\nlines", "a\ttab", "", "end"))
    lines = printed(monkeypatch, 20, rows, terminal=False)
    assert [tuple(line.split("\t")) for line in lines] == [COLUMNS, *ROWS, ("two lines", "a tab", "", "end")]


def test_a_table_without_rows_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 80, ()) == []


def whinchat(folder: Path, *arguments: str, output: int, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run a command that imports little, with standard output of this encoding at a file descriptor."""
    return subprocess.run(
        [sys.executable, "-m", "whinchat", *arguments],
        cwd=folder,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )


@pytest.mark.parametrize("arguments", [("recipes", "show", "demo"), ("runs", "none", "--json")])
def test_a_full_disk_below_standard_output_is_an_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "none").mkdir()
    with Path("/dev/full").open("w") as full:
        done = whinchat(tmp_path, *arguments, output=full.fileno())
    assert done.returncode == 2
    assert done.stderr == "error: standard output: cannot be written to (No space left on device)\n"


def test_a_reader_that_has_seen_enough_ends_the_command(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = whinchat(tmp_path, "recipes", "show", "demo", output=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_characters_that_the_encoding_does_not_have_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "naïve").mkdir()
    done = whinchat(tmp_path, "runs", "naïve", output=subprocess.PIPE, encoding="ascii")
    assert done.returncode == 0
    assert done.stdout.startswith("na\\xefve: no runs;")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    content = {"naïve 🙂": ['"', "\n", "–"]}
    output.emit_json(content)
    sys.stdout.flush()
    assert written.getvalue().isascii()
    assert json.loads(written.getvalue()) == content


@pytest.mark.parametrize("program", [("-m", "whinchat"), ("-P", "-c", "from whinchat.cli import main; main()")])
@pytest.mark.parametrize("arguments", [("recipes", "list"), ("init", "my.csv"), ("run", "demo")])
def test_a_deleted_working_folder_is_an_error(
    tmp_path: Path, program: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    # The installed command has no folder of the user's on its path, as -P sees to.
    command = [sys.executable, *program, *arguments]
    # The shell deletes the folder that it stands in, and becomes the program.
    script = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *command]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("shell-init")]
    assert lines == ["error: the working folder was deleted; change to a folder that is there (cd ~)"]
