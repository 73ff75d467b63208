"""Write files that a kill, a full disk or a power loss leaves whole: the old file or the new file, never a part of one.

A file or folder is written as a draft beside its place and then renamed. The name of a draft holds the machine and the
process that write it, so the drafts of dead processes can be told from those in use, and swept.
"""

import errno
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from safetensors import SafetensorError

from whinchat.errors import OutputError

# No draft is written for a whole day, so an older one is dead even if its process identifier is in use again.
_LONGEST_DRAFT_SECONDS = 24 * 3600
_DRAFT_SUFFIX = ".draft"
_TEMPORARY_PREFIX = "whinchat-temporary-"
# Machine and process in the name of a draft. Files of users with similar names, such as a date, are never removed.
_OWNER = re.compile(r"([0-9a-f]{8})-([0-9]{1,9})-\w+(\.|$)")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
# File systems on which folders cannot be synchronized say so in one of these ways.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EISDIR}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write inside the block into an error that names ``path`` and the reason.

    Raises:
        OutputError: the operating system refused to write, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _output_error(path, error.strerror or str(error), error.errno) from error
    except SafetensorError as error:
        if "I/O error" not in str(error):
            raise
        raise _output_error(path, str(error), errno.ENOSPC if "os error 28" in str(error) else None) from error
    except RuntimeError as error:
        # torch.save reports a failure to write in one of these ways, without the system's reason.
        if not any(name in str(error) for name in ("inline_container.cc", "PytorchStreamWriter", "iostream error")):
            raise
        raise _output_error(path, "the file is cut off; is the disk full?", errno.ENOSPC) from error
    except Exception as error:
        # tokenizers raises the base class itself, with the text of Rust's error.
        found = re.fullmatch(r"(.*) \(os error (\d+)\)", str(error)) if type(error) is Exception else None
        if found is None:
            raise
        raise _output_error(path, found[1], int(found[2])) from error


def _output_error(path: Path, reason: str, code: int | None) -> OutputError:
    remedy = (
        "free some space and repeat the command" if code in _NO_SPACE else "remove the cause, or choose another place"
    )
    return OutputError(f"{path}: cannot be written ({reason}); {remedy}")


def require_writable(path: Path) -> None:
    """Check that a file or folder can be created, or replaced, at ``path``; nothing is left behind.

    Raises:
        OutputError: it cannot, and the message says why.
    """
    with writing(path):
        # Asking for the status also finds a name that is too long, and a file where a folder should be.
        with suppress(FileNotFoundError):
            path.lstat()
        existing = path if path.is_dir() else path.parent
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        sweep_drafts(existing)  # a kill leaves the probe in this folder, where nothing else may be written
        probe = draft_path(existing / "probe")
        try:
            probe.touch()
        finally:
            # Unlinking raises the same error as touching where the folder cannot be written.
            with suppress(OSError):
                probe.unlink()


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with the path of a draft, and put the draft in the place of ``path`` once it is on the disk.

    Missing folders are created. The draft has the suffix of ``path``.

    Raises:
        OutputError: the file cannot be written. What was at ``path`` before is still there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_path(path)
        try:
            write(draft)
            publish(draft, path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def replace_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a draft folder, and put the draft in the place of ``path`` once it is on the disk.

    A folder at ``path`` is removed just before. Missing parents are created.

    Raises:
        OutputError: the folder cannot be written.
    """
    with writing(path):
        draft = draft_path(path)
        draft.mkdir(parents=True)
        try:
            write(draft)
            synchronize(draft)
            remove_folder(path)
            publish(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove the folder at ``path``, if there is one; a kill leaves it whole, or leaves a draft of it to be swept."""
    if path.is_dir():
        removed = draft_path(path)
        path.rename(removed)
        shutil.rmtree(removed)


def publish(draft: Path, path: Path) -> None:
    """Rename ``draft``, a file or a folder, to ``path``, after every byte of it has reached the disk.

    A file at ``path`` is replaced; a folder at ``path`` must be empty. Every file gets the permissions that the umask
    gives new files, whatever the library that wrote the file chose.
    """
    _set_usual_modes(draft)
    synchronize(draft)
    draft.replace(path)
    _synchronize_entry(path.parent)


def _set_usual_modes(draft: Path) -> None:
    """Give each file of ``draft`` the mode of a new file; safetensors leaves its files readable by their owner only."""
    umask = os.umask(0o077)  # the only portable way to read it
    os.umask(umask)
    for path in (draft, *draft.rglob("*")):
        # Another process of the same training renames its own file here once it is written.
        with suppress(FileNotFoundError):
            found = path.lstat().st_mode
            mode = (0o666 | found & 0o111) & ~umask
            if stat.S_ISREG(found) and stat.S_IMODE(found) != mode:
                path.chmod(mode)


def synchronize(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, has reached the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                # Another process of the same training renames its own file here once it is written.
                with suppress(FileNotFoundError):
                    synchronize(Path(folder, name))
            _synchronize_entry(Path(folder))
    elif not path.is_symlink():
        # Windows synchronizes only what is open for writing.
        _synchronize_handle(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def _synchronize_entry(folder: Path) -> None:
    """Wait until the names in ``folder`` have reached the disk, where the file system can do that."""
    if os.name == "nt":
        return
    try:
        _synchronize_handle(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _synchronize_handle(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def draft_path(path: Path) -> Path:
    """Return a new name beside ``path``, with the same suffix, for what this process is about to write there."""
    unique = f"{os.getpid()}-{os.urandom(4).hex()}"
    return path.with_name(f".{_this_host()}-{unique}{_DRAFT_SUFFIX}{path.suffix}")


def is_draft(path: Path) -> bool:
    """Return whether a file or folder has the name of a draft."""
    return path.name.startswith(".") and _DRAFT_SUFFIX in path.name and bool(_OWNER.match(path.name[1:]))


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts, files and folders, that dead processes have left in ``folder``, which may be missing."""
    for path in folder.glob(f".*-*-*{_DRAFT_SUFFIX}*"):
        if _is_dead(path.name.removeprefix("."), path):
            _remove(path)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder among the system's temporary files, and remove it afterwards.

    The folders of processes of this machine that were killed are removed first.

    Raises:
        OutputError: no folder for temporary files can be written.
    """
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(f"{error.strerror}; free some space, or set TMPDIR to a folder that can be written") from None
    for path in place.glob(f"{_TEMPORARY_PREFIX}*"):
        # Not by age: a server uses its folder for as long as it runs.
        if _process_has_ended(path.name.removeprefix(_TEMPORARY_PREFIX)):
            _remove(path)
    prefix = f"{_TEMPORARY_PREFIX}{_this_host()}-{os.getpid()}-"
    with writing(place):
        temporary = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    with temporary as name:
        yield Path(name)


def _this_host() -> str:
    """Return eight letters that stand for this machine; containers that share a folder differ in their names."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_dead(name: str, path: Path) -> bool:
    """Whether nobody writes a draft any longer, by its name without the prefix (HOST-PID-...), or by its age."""
    if not _OWNER.match(name):
        return False
    if _process_has_ended(name):
        return True
    try:
        return time.time() - path.lstat().st_mtime > _LONGEST_DRAFT_SECONDS
    except FileNotFoundError:
        return False


def _process_has_ended(name: str) -> bool:
    """Whether the process in a name HOST-PID-... ran on this machine, and has ended."""
    owner = _OWNER.match(name)
    return owner is not None and owner[1] == _this_host() and not psutil.pid_exists(int(owner[2]))


def _remove(path: Path) -> None:
    """Remove a file or a folder; what belongs to somebody else stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
