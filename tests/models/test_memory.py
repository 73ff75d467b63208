"""The peak memory of a process is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from whinchat.models.memory import peak_memory_bytes


def test_a_process_does_not_begin_with_the_peak_of_the_one_that_started_it() -> None:
    before = peak_memory_bytes()
    held = np.ones(300 * 2**20, dtype=np.int8)
    assert peak_memory_bytes() >= min(before, held.nbytes)
    program = "from whinchat.models.memory import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 1e7 < int(done.stdout) < 250 * 2**20
    del held
