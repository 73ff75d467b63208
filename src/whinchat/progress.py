"""Show the progress of long work: bars on a terminal, log lines everywhere else.

All lines go through the logger ``whinchat.progress`` at level INFO, so a program that uses whinchat as a library sees
nothing unless it asks for them; the command line asks by ``log_to_stderr``.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any, ClassVar, TypeVar

from tqdm import tqdm

# Longest silence in a log, in seconds.
LOG_INTERVAL_SECONDS = 30.0

T = TypeVar("T")
logger = logging.getLogger("whinchat.progress")


def whole_duration(seconds: float) -> str:
    """Return a time in its two largest units, to the second, such as "37 s", "4 min 05 s" or "1 h 06 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """How far one piece of work has come. This base class shows it to nobody."""

    def update(self, count: int) -> None:
        """Count ``count`` further items as done."""

    def note(self, text: str) -> None:
        """Show ``text``, such as the current loss, beside the count."""


class _Bar(Progress):
    """A tqdm bar on a terminal."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def update(self, count: int) -> None:
        self._bar.update(count)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)


class _LoggedProgress(Progress):
    """A count that a thread of its own logs whenever the log was silent for ``LOG_INTERVAL_SECONDS``.

    Of nested counts, such as a stage and what is done in it, only the innermost is logged.
    """

    _open: ClassVar[list[_LoggedProgress]] = []
    _last_line = time.perf_counter()

    def __init__(self, title: str, total: int | None = None, unit: str = "", initial: int = 0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._initial = self._done = initial
        self._note = ""
        self._started = time.perf_counter()
        self._ended = threading.Event()
        self._open.append(self)
        self._thread = threading.Thread(target=self._log_regularly, daemon=True)
        self._thread.start()

    def update(self, count: int) -> None:
        self._done += count

    def note(self, text: str) -> None:
        self._note = text

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._open.remove(self)

    @classmethod
    def remember_line(cls, record: logging.LogRecord) -> bool:
        """Note the time of a line, as a filter that lets every line pass."""
        cls._last_line = time.perf_counter()
        return True

    def _log_regularly(self) -> None:
        while not self._ended.wait(max(self._seconds_to_next_line(), LOG_INTERVAL_SECONDS / 30)):
            if self._seconds_to_next_line() <= 0 and self._open[-1] is self:
                logger.info(self._line())

    def _seconds_to_next_line(self) -> float:
        return self._last_line + LOG_INTERVAL_SECONDS - time.perf_counter()

    def _line(self) -> str:
        seconds = time.perf_counter() - self._started
        if not self._total:
            return f"{self._title}: running for {whole_duration(seconds)}"
        line = f"{self._title}: {self._done:,} of {self._total:,} {self._unit} ({self._done / self._total:.0%})"
        if self._done > self._initial:
            left = seconds / (self._done - self._initial) * (self._total - self._done)
            line += f", about {whole_duration(left)} left"
        return f"{line}, {self._note}" if self._note else line


logger.addFilter(_LoggedProgress.remember_line)


# Whether anything is shown; changed by ``shown_progress`` only.
_shown = True


def _has_bars() -> bool:
    """Return whether standard error can redraw a line: a terminal, or the output of a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _is_logged() -> bool:
    return _shown and logger.isEnabledFor(logging.INFO) and not _has_bars()


@contextmanager
def shown_progress(shown: bool) -> Iterator[None]:
    """Show progress on standard error inside the context, as the command line does, or show none at all."""
    global _shown  # noqa: PLW0603  # one switch for the process, as the logger is one
    before = _shown, logger.level, logger.propagate, logger.handlers[:]
    _shown = shown
    if shown:
        log_to_stderr()
    else:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _shown, logger.level, logger.propagate, logger.handlers[:] = before
        logger.setLevel(logger.level)  # forgets which levels the logger found enabled


@contextmanager
def progress(title: str, total: int | None = None, unit: str = "texts", *, initial: int = 0) -> Iterator[Progress]:
    """Show the progress of what happens inside, on standard error.

    Args:
        title: what is being done.
        total: items to do; None where their number is not known.
        unit: name of the items, in the plural.
        initial: items that an earlier process has done.
    """
    if not _shown:
        yield Progress()
    elif _has_bars():
        # disable=None leaves the decision to tqdm: TQDM_DISABLE=1 turns the bar off.
        unit, scale = ("B", True) if unit == "bytes" else (f" {unit}", False)
        with tqdm(total=total, desc=title, unit=unit, unit_scale=scale, initial=initial, disable=None) as bar:
            yield _Bar(bar)
    elif _is_logged():
        with closing(_LoggedProgress(title, total, unit, initial)) as logged:
            yield logged
    else:
        yield Progress()


def track(items: Sequence[T], title: str, unit: str = "texts") -> Iterator[T]:
    """Yield each of ``items``, and show how many have been worked on."""
    with progress(title, len(items), unit) as bar:
        for item in items:
            yield item
            bar.update(1)


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Log when a stage of a run starts and when it ends; one that fails logs no end."""
    logger.info("%s ...", title)
    started = time.perf_counter()
    with closing(_LoggedProgress(title)) if _is_logged() else nullcontext():
        yield
    logger.info("%s: done in %s", title, whole_duration(time.perf_counter() - started))


class _StderrHandler(logging.Handler):
    """Writes log lines above the bar that may be on the terminal, with the time of day in a log file."""

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if not sys.stderr.isatty():
            line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {line}"
        with suppress(OSError):  # a terminal that was closed takes no lines, and the work goes on
            tqdm.write(line, file=sys.stderr)


def log_to_stderr() -> None:
    """Show the lines of this module on standard error from now on; calling this again changes nothing."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_StderrHandler())
