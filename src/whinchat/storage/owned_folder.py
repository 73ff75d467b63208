"""What the folders of reviews, searches and arenas have in common: held by one process, and never taken from others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from whinchat.errors import RunError
from whinchat.output_files import sweep_drafts
from whinchat.storage.locking import holds_files, lock_folder


@contextmanager
def hold_swept(path: Path, refusal: RunError, inner: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Hold a folder for this process alone, and sweep first what a process left that was killed.

    Args:
        path: the folder, which need not exist yet.
        refusal: raised where there is a file at ``path``.
        inner: returns the folders inside that may hold drafts, too.

    Raises:
        RunError: ``refusal``, or another process writes into the folder.
        OutputError: the folder cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise refusal
    with lock_folder(path):
        for folder in (path, *inner()):
            sweep_drafts(folder)
        yield


def check_owned(
    path: Path, plan: Path, existing: str, noun: str, refusal: RunError, changes: Callable[[], Sequence[str]]
) -> None:
    """Check that a review or a search may use a folder. Nothing is created or deleted.

    Args:
        path: the folder.
        plan: the file inside that makes it a folder of this kind.
        existing: "refuse", "resume" or "overwrite".
        noun: what such a folder holds, such as "review".
        refusal: raised where the folder holds something else.
        changes: returns what differs between the stored plan and this one; asked only to resume.

    Raises:
        RunError: ``refusal``, or the folder holds one while ``existing`` is "refuse", or one of other settings while
            ``existing`` is "resume".
    """
    is_owned = plan.is_file()
    if path.exists() and (not path.is_dir() or (holds_files(path) and not is_owned)):
        raise refusal
    if not is_owned or existing == "overwrite":
        return
    if existing == "refuse":
        raise RunError(
            f"{path}: already holds a {noun}; --resume continues it, --overwrite starts again, --out names another"
        )
    if changed := changes():
        raise RunError(
            f"{path}: holds another {noun}, so it cannot be resumed with these settings; "
            f"different: {', '.join(changed)}; repeat the earlier ones, or use another --out or --overwrite"
        )
