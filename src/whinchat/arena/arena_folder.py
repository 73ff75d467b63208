"""An arena's folder: what lies where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whinchat.arena.spec import ArenaSpec, arena_to_yaml
from whinchat.arena.trials import Trial, TrialRecord, read_record
from whinchat.errors import RunError
from whinchat.storage.atomic import write_json, write_text


@dataclass(frozen=True)
class ArenaFolder:
    """The layout. Nothing outside this class knows a file name."""

    path: Path

    @property
    def spec(self) -> Path:
        """The arena as it was last asked for."""
        return self.path / "arena.yaml"

    @property
    def results(self) -> Path:
        """All figures, for programs."""
        return self.path / "results.json"

    @property
    def page(self) -> Path:
        """Tables and sentences, for people."""
        return self.path / "results.md"

    def record(self, cell: Trial) -> Path:
        """What a cell found."""
        return self.path / "cells" / f"{cell.stem}.json"

    def log(self, cell: Trial) -> Path:
        """What its process said."""
        return self.path / "logs" / f"{cell.stem}.log"

    def open(self, spec: ArenaSpec) -> None:
        """Make the folder, or take up the arena that is there.

        Raises:
            RunError: something else is there, or it cannot be made.
        """
        if self.path.exists() and (not self.path.is_dir() or (any(self.path.iterdir()) and not self.spec.is_file())):
            raise RunError(f"{self.path}: is there and is no arena's folder; choose another with --out")
        try:
            for folder in ("cells", "logs"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RunError(f"{self.path}: cannot be made ({fault.strerror}); choose another with --out") from None
        write_text(self.spec, arena_to_yaml(spec))

    def read(self, cells: Sequence[Trial]) -> dict[Trial, TrialRecord]:
        """The records of those ``cells`` that were run.

        Raises:
            RunError: one cannot be read.
        """
        return {cell: read_record(path) for cell in cells if (path := self.record(cell)).is_file()}

    def write(self, record: TrialRecord) -> None:
        """Keep a record."""
        write_json(self.record(record.cell), record.to_dict())
