"""Find the tables to label, and pair each with the path of its labelled copy."""

import os
from pathlib import Path
from typing import NoReturn

from whinchat.data.formats.table_registry import find_table_format, table_suffixes
from whinchat.data.rows import reading, require_file
from whinchat.errors import DataError
from whinchat.output_files import is_draft

# Ending of the folder that holds the parts of a job beside its labelled table, and the file in it that says whose they
# are.
PARTS_SUFFIX, PLAN_NAME = ".parts", "job.json"


def pair_tables(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Pair each table in ``source``, a file or a folder, with the path of its labelled copy."""
    if not source.is_dir():
        return [(source, out / source.name if out.is_dir() else out)]
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: lies inside {source}, and would be labelled itself; choose another --out")
    if not (tables := _find_tables(source)):
        raise DataError(f"{source}: holds no {', '.join(table_suffixes())} file")
    return [(table, out / table.relative_to(source)) for table in tables]


def _find_tables(folder: Path) -> list[Path]:
    """Return the tables in a folder and in the folders within it, in order, without the parts of unfinished jobs.

    Raises:
        DataError: a folder or a table cannot be read, or a link leads to another folder.
    """

    def refuse(error: OSError) -> NoReturn:
        raise error

    tables = []
    with reading(folder):
        for place, inner, names in os.walk(folder, onerror=refuse):
            if linked := next((path for name in inner if (path := Path(place, name)).is_symlink()), None):
                raise DataError(
                    f"{linked}: is a link to a folder, which is not followed; remove it, or label its target"
                )
            paths = [Path(place, name) for name in names]
            tables += [path for path in paths if find_table_format(path) and not is_draft(path)]
            inner[:] = [name for name in inner if not _holds_parts(Path(place, name))]
    for table in tables:
        require_file(table, "repair the link, or remove it")
    return sorted(tables)


def _holds_parts(folder: Path) -> bool:
    """Return whether a folder, which may be a draft, holds the parts of a job."""
    return is_draft(folder) or (folder.suffix == PARTS_SUFFIX and (folder / PLAN_NAME).is_file())


def require_utf8(*paths: Path) -> None:
    """Check that a JSON file can hold the names of ``paths``.

    Raises:
        DataError: a name has bytes that are not UTF-8.
    """
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DataError(f"{path}: the name holds bytes that are not UTF-8; rename the file") from None
