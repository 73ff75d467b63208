"""Stop on Ctrl-C (SIGINT), SIGTERM and a closed terminal (SIGHUP); a second signal ends the process at once.

Reading this module loads no torch, so the command line can use it from its start.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from whinchat.training.launch import world_size

# Windows has no SIGHUP.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Python drops an exception that is raised while it finalizes an object. A stop that is lost this way is tried again.
_RETRY_SECONDS = 0.1
# ``accelerate launch`` passes Ctrl-C on to processes that the terminal has already told.
_LAUNCHER_DELAY_SECONDS = 2.0


@contextmanager
def on_stop_signal(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call ``stop`` at the first stop signal inside the context; a second signal ends the process at once.

    Where ``stop`` raises KeyboardInterrupt or SystemExit, and Python drops the exception because the signal came inside
    a ``__del__`` or a callback, ``stop`` is called once more a moment later.

    Signals that the process ignores, as SIGHUP under ``nohup``, stay ignored. Python delivers signals to the main
    thread alone, so in any other thread this context changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None
    last = 0
    patience = _LAUNCHER_DELAY_SECONDS if world_size() > 1 else 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first, last
        if first is None:
            first, last = time.monotonic(), number
            stop(signal.Signals(number))
        elif time.monotonic() - first >= patience:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def retry(dropped: Any) -> None:
        nonlocal first
        if first is None or not isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit):
            earlier_hook(dropped)
            return
        first = None
        timer = threading.Timer(_RETRY_SECONDS, _signal_main_thread, (last,))
        timer.daemon = True
        timer.start()

    earlier_hook, sys.unraisablehook = sys.unraisablehook, retry
    earlier = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [number for number, handler in earlier.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        sys.unraisablehook = earlier_hook
        for number in handled:
            signal.signal(number, earlier[number])


def _signal_main_thread(number: int) -> None:
    """Send a signal to the main thread, which it interrupts even in the middle of a wait."""
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):  # Windows has none
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
