"""Progress: bars on a terminal, log lines elsewhere, silence in a library."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator

import pytest

from whinchat import progress as module
from whinchat.progress import log_to_stderr, progress, stage, track


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show log lines, every hundredth of a second."""
    monkeypatch.setattr(module, "LOG_INTERVAL_SECONDS", 0.01)
    log_to_stderr()
    yield
    module.logger.setLevel(logging.NOTSET)
    module.logger.handlers.clear()
    module.logger.propagate = True


@pytest.mark.usefixtures("logged")
def test_a_log_is_told_how_far_it_is_even_while_one_item_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Scoring", 8, initial=2) as bar:
        bar.update(2)
        bar.note("loss 0.5")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert re.fullmatch(r"\d\d:\d\d:\d\d Scoring: 4 of 8 texts \(50%\), about 0 s left, loss 0\.5", lines[-1])


@pytest.mark.usefixtures("logged")
def test_the_log_is_never_silent_for_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_INTERVAL_SECONDS", 0.3)
    with stage("Evaluate"):
        # Neither count lasts as long as the interval, but both together do.
        for title in ("Scoring", "Generating"):
            with progress(title, 2) as bar:
                bar.update(1)
                time.sleep(0.25)
        time.sleep(0.5)
    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines[1].startswith("Generating: 1 of 2 texts (50%)"), "counted from the start of the stage"
    assert lines[2].startswith("Evaluate: running for "), "nothing else tells of the stage"


@pytest.mark.usefixtures("logged")
def test_stages_are_told_at_both_ends_and_a_failed_one_has_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Load the model"):
        pass
    with pytest.raises(ValueError, match="broken"), stage("Train"):
        raise ValueError("broken")
    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["Load the model ...", "Load the model: done in 0 s", "Train ..."]


def test_a_library_stays_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Load"), progress("Scoring", 3) as bar:
        bar.update(3)
    assert list(track([1, 2], "Reading")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for _ in track([1, 2, 3], "Reading", "batches"):
        pass
    with progress("Reading", 2_000_000, "bytes") as bar:
        bar.update(2_000_000)
    said = capsys.readouterr().err
    assert "Reading: 100%" in said
    assert "3/3" in said
    assert "2.00M/2.00M" in said
