"""The files of an arena's folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from whinchat.arena.spec import ArenaSpec, arena_to_yaml
from whinchat.arena.trials import Trial, TrialRecord
from whinchat.errors import RunError
from whinchat.output_files import writing
from whinchat.storage.atomic import write_text
from whinchat.storage.folder_entry import FolderEntry
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.locking import holds_files
from whinchat.storage.owned_folder import hold_swept


@dataclass(frozen=True)
class ArenaFolder:
    """The layout of an arena's folder. Nothing outside this class knows a file name."""

    path: Path

    spec = FolderEntry("arena.yaml", "The arena as it was run last.")
    results = FolderEntry("results.json", "All results, for programs.")
    page = FolderEntry("results.md", "Tables and sentences, for people.")
    records = FolderEntry("cells", "The records of the trials, one JSON file each.")

    def record(self, trial: Trial) -> Path:
        """Return the path of a trial's record."""
        return self.records / f"{trial.stem}.json"

    def log(self, trial: Trial) -> Path:
        """Return the path of what a trial's process printed."""
        return self.path / "logs" / f"{trial.stem}.log"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for this process alone, and sweep first what a process left that was killed.

        Raises:
            RunError: there is a file at its path, or another process writes into the folder.
            OutputError: the folder cannot be written.
        """
        with hold_swept(self.path, self._not_an_arena(), lambda: (self.records,)):
            yield

    def _not_an_arena(self) -> RunError:
        return RunError(f"{self.path}: exists and is not an arena's folder; choose another with --out")

    def require_own(self) -> None:
        """Check that the folder holds an arena, or nothing.

        Raises:
            RunError: the folder holds something else.
        """
        if holds_files(self.path) and not self.spec.is_file():
            raise self._not_an_arena()

    def open(self, spec: ArenaSpec) -> None:
        """Make the folder, or go on with the arena that it holds.

        Raises:
            RunError: the folder holds something else.
            OutputError: the folder cannot be written.
        """
        self.require_own()
        with writing(self.path):
            for folder in ("cells", "logs"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        write_text(self.spec, arena_to_yaml(spec))

    def read(self, trials: Sequence[Trial]) -> dict[Trial, TrialRecord]:
        """Read the records of those ``trials`` that were run.

        Raises:
            RunError: a record cannot be read.
        """
        return {
            trial: read_json_record(path, TrialRecord, "delete the file to run the trial again")
            for trial in trials
            if (path := self.record(trial)).is_file()
        }

    def write(self, record: TrialRecord) -> None:
        """Write the record of a trial."""
        write_json_record(self.record(record.trial), record)
