"""The files of a folder, one line each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FolderEntry:
    """An attribute of a folder's class: the path of the file or folder ``name`` below the class's ``path``.

    ``description`` says what the entry holds; ``docs/generate.py`` lists the entries of a class from it.
    """

    name: str
    description: str

    def __get__(self, folder: Any, owner: type | None = None) -> Path:
        path: Path = folder.path / self.name
        return path
