"""A process that has imported whinchat, and runs each command that it is asked for in a fork of itself.

``crash_lab`` starts it with ``system_calls.c`` preloaded. A request is one line of JSON on standard input; the answer
is the exit code on a line of standard output, negative for a signal.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from typing import Any, NoReturn

import torch

import whinchat.arena.run_arena
import whinchat.export.export_run
import whinchat.inference.predict_file
import whinchat.pipelines.calibrate_run
import whinchat.pipelines.compare_runs
import whinchat.pipelines.rebuild_report
import whinchat.pipelines.review_run
import whinchat.pipelines.run  # noqa: F401  # imported once here, and not by each command
from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.quick_trials import try_nothing_out
from whinchat.cli import main


def run_command(request: dict[str, Any]) -> NoReturn:
    """Run ``whinchat ARGUMENTS`` in this process, with its calls watched, and end the process."""
    for file, stream in ((request["output"], 1), (request["output"], 2), (os.devnull, 0)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), stream)
    # Times are no part of what two runs have in common.
    time.perf_counter = lambda: 0.0
    os.chdir(request["cwd"])
    sys.argv = ["whinchat", *request["arguments"]]
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    code: Any = 1
    try:
        with draw_no_figures(), try_nothing_out():
            watch = ctypes.CDLL(os.environ["LD_PRELOAD"]).watch_calls
            watch(request["folder"].encode(), log, ctypes.c_long(request["at"]), request["error"])
            main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  # shown as the interpreter shows it at the end of a process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def serve() -> None:
    """Answer requests until standard input ends."""
    torch.set_num_threads(1)
    # The children look for garbage only among what they make, and share the rest of the memory.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_command(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
