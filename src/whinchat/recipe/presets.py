"""Find the YAML files of one kind, recipes or arenas: shipped files, and files of the user."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from whinchat.errors import RecipeError, nearest
from whinchat.recipe.yaml_reader import LONGEST_TEXT

_PACKAGE = resources.files("whinchat")
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class PresetRegistry:
    """Finds YAML files of one kind by name or path.

    Attributes:
        kind: the kind with its article, for error messages. Its noun names files and folders: "a recipe" stands for
            ``presets/recipes/`` in the package and for ``recipe.yaml`` in a run folder.
        listing: the command that lists the shipped files.
    """

    kind: str
    listing: str

    @property
    def _noun(self) -> str:
        return self.kind.split()[-1]

    def names(self) -> tuple[str, ...]:
        """Return the names of the shipped files in alphabetical order."""
        files = (entry.name for entry in (_PACKAGE / "presets" / f"{self._noun}s").iterdir())
        return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))

    def text(self, name_or_path: str) -> str:
        """Return the YAML, comments included, of a shipped name, a file, or a folder that was made from a file.

        Raises:
            RecipeError: ``name_or_path`` is neither a shipped name nor a readable UTF-8 file.
        """
        path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111  # Path's own raises for an unknown user
        if path.suffix in {".yaml", ".yml"} or _is_file(path):
            return self._read(path)
        if _is_file(path / f"{self._noun}.yaml"):
            return self._read(path / f"{self._noun}.yaml")
        names = self.names()
        if name_or_path not in names:
            raise RecipeError(
                f"{name_or_path[:_LONGEST_SHOWN]}: neither {self.kind} file nor a shipped {self._noun}"
                f"{nearest(name_or_path[:_LONGEST_SHOWN], names)} Shipped: {', '.join(names)}."
            )
        return (_PACKAGE / "presets" / f"{self._noun}s" / f"{name_or_path}.yaml").read_text(encoding="utf-8")

    def _read(self, path: Path) -> str:
        try:
            if path.exists() and not path.is_file():
                raise RecipeError(f"{path}: is no regular file; name {self.kind} file")
            with path.open(encoding="utf-8") as file:
                # One character more than is read, which refuses the file.
                return file.read(LONGEST_TEXT + 1)
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such file; `{self.listing}` lists the shipped ones") from None
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
        except OSError as error:
            reason = error.strerror
            raise RecipeError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None


def _is_file(path: Path) -> bool:
    """Return whether there is a file at ``path``; no file system holds a name that is too long for it."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
