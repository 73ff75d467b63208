"""The YAML files of one kind, recipes or arenas: those that come with whinchat, and the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from whinchat.errors import RecipeError, nearest

_PACKAGE = resources.files("whinchat")


@dataclass(frozen=True)
class PresetRegistry:
    """Where files of a kind stand.

    Attributes:
        kind: as in messages, with its article; what follows it names folders and files: ``a recipe`` stands for
            ``recipes/`` in the package and ``recipe.yaml`` in a folder that was made from one.
        listing: the command that shows the shipped ones.
    """

    kind: str
    listing: str

    @property
    def _word(self) -> str:
        return self.kind.split()[-1]

    def names(self) -> tuple[str, ...]:
        """Names of the shipped ones, in alphabetical order."""
        files = (entry.name for entry in (_PACKAGE / "presets" / f"{self._word}s").iterdir())
        return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))

    def text(self, name_or_path: str) -> str:
        """The YAML of a shipped one, of a file, or of the folder that was made from one; comments included.

        Raises:
            RecipeError: neither a shipped name nor a readable UTF-8 file.
        """
        path = Path(name_or_path).expanduser()
        if path.suffix in {".yaml", ".yml"} or path.is_file():
            return self._read(path)
        if (path / f"{self._word}.yaml").is_file():
            return self._read(path / f"{self._word}.yaml")
        names = self.names()
        if name_or_path not in names:
            raise RecipeError(
                f"{name_or_path}: neither {self.kind} file nor a shipped {self._word}{nearest(name_or_path, names)} "
                f"Shipped: {', '.join(names)}."
            )
        return (_PACKAGE / "presets" / f"{self._word}s" / f"{name_or_path}.yaml").read_text(encoding="utf-8")

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such file; `{self.listing}` shows the shipped ones") from None
        except UnicodeDecodeError as fault:
            raise RecipeError(f"{path}: not UTF-8 at byte {fault.start}; save the file as UTF-8") from None
        except OSError as fault:
            raise RecipeError(
                f"{path}: cannot be read ({fault.strerror}); check the path and its permissions"
            ) from None
