"""Locks, so that two processes never write to the same place.

The operating system releases the lock of a process that ends, however it ends. Where a file system knows no locks, the
existence of the lock file is the lock, and filelock tells a dead holder by its process identifier.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from whinchat.errors import RunError
from whinchat.output_files import writing

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
_LOCK_NAME = ".lock"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is created if it is missing, for this process alone; the lock file is inside.

    Folders that were created for the lock, and are still empty at the end, are removed.

    Raises:
        RunError: another process, or another call in this one, holds the folder; the message says which.
        OutputError: the folder cannot be written.
    """
    created = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _hold(folder / _LOCK_NAME, folder):
            yield
    finally:
        with suppress(OSError):
            for path in created:
                path.rmdir()


@contextmanager
def lock_output(path: Path) -> Iterator[None]:
    """Hold ``path``, a file or folder that need not exist yet, for this process alone; the lock file is beside it.

    Raises:
        RunError: another process, or another call in this one, holds the path; the message says which.
        OutputError: the folder of ``path`` cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _hold(path.with_name(f".{path.name}{_LOCK_NAME}"), path):
        yield


def holds_files(folder: Path) -> bool:
    """Whether there is anything in ``folder`` besides its lock."""
    return any(path.name != _LOCK_NAME for path in folder.iterdir())


@contextmanager
def _hold(lock_file: Path, path: Path) -> Iterator[None]:
    """Hold the lock of ``path``."""
    with writing(path):
        lock = _acquire(lock_file, path)
        if not isinstance(lock, SoftFileLock):  # which has its own note in the file
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            # The note only names the holder in the message of another process; Windows refuses it, as does a full disk.
            with suppress(OSError):
                lock_file.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}", "utf-8")
    try:
        yield
    finally:
        # While the lock is held: a process that has opened the file meanwhile finds it unlinked, and makes a new one.
        with suppress(OSError):
            lock_file.unlink(missing_ok=True)
        lock.release()


def _acquire(lock_file: Path, path: Path) -> BaseFileLock:
    """Take the lock at once, or raise RunError with its holder."""
    lock: BaseFileLock = FileLock(lock_file, timeout=0, thread_local=False)
    try:
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS or isinstance(error, Timeout):
                raise
            lock = SoftFileLock(lock_file, timeout=0, thread_local=False)
            lock.acquire()
    except Timeout:
        raise RunError(
            f"{path}: another process is writing here ({_holder(lock_file)}); wait until it has ended, or choose "
            "another place"
        ) from None
    return lock


def _holder(lock_file: Path) -> str:
    """Return what the lock file says about the process that holds it."""
    with suppress(OSError, UnicodeDecodeError):
        if text := lock_file.read_text(encoding="utf-8").strip():
            return ", ".join(text.split("\n"))
    return "which one is not known"
