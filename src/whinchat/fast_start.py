"""Spare CPU while libraries and a model are loaded: no search for garbage, no threads that spin, no compiler."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the search for garbage inside the block, if it is on.

    Importing torch and transformers makes some million objects, all of which stay. Python would look through them time
    and again, which is a sixth of the CPU time of the import.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait; to be called before torch is loaded.

    Loading a model takes many short steps, between which each further thread would keep a core busy. Where much is
    computed, threads that spin are the faster ones, so this is for commands that compute little.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def skip_compiler() -> None:
    """Leave torch's compiler out; to be called before torch is loaded, and not for NF4 weights.

    PEFT imports bitsandbytes where it is installed, and bitsandbytes loads the compiler for its kernels of NF4 weights.
    whinchat itself compiles nothing.
    """
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
