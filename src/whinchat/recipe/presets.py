"""Find the YAML files of one kind, recipes or arenas: shipped files, and files of the user."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from whinchat.errors import RecipeError, nearest

_PACKAGE = resources.files("whinchat")


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
        path = Path(name_or_path).expanduser()
        if path.suffix in {".yaml", ".yml"} or path.is_file():
            return self._read(path)
        if (path / f"{self._noun}.yaml").is_file():
            return self._read(path / f"{self._noun}.yaml")
        names = self.names()
        if name_or_path not in names:
            raise RecipeError(
                f"{name_or_path}: neither {self.kind} file nor a shipped {self._noun}{nearest(name_or_path, names)} "
                f"Shipped: {', '.join(names)}."
            )
        return (_PACKAGE / "presets" / f"{self._noun}s" / f"{name_or_path}.yaml").read_text(encoding="utf-8")

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such file; `{self.listing}` lists the shipped ones") from None
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
        except OSError as error:
            reason = error.strerror
            raise RecipeError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
