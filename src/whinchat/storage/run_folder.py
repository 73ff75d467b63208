"""The run folder: what lies where, and how it is written and read back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from whinchat.errors import RunError
from whinchat.evaluation.results import Evaluation, Interval, PairedTest, ReliabilityReport
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import write_json, write_text
from whinchat.storage.run_record import Manifest, RunRecord, Sample
from whinchat.storage.training_result import TrainPoint

T = TypeVar("T")


@dataclass(frozen=True)
class RunFolder:
    """The layout of one run's folder. Nothing outside this class knows a file name."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe as it ran, every default spelled out."""
        return self.path / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, seeds, sources, times and memory."""
        return self.path / "manifest.json"

    @property
    def before(self) -> Path:
        """The evaluation before training."""
        return self.path / "before.json"

    @property
    def after(self) -> Path:
        """The evaluation after training."""
        return self.path / "after.json"

    @property
    def paired(self) -> Path:
        """After against before on the same rows."""
        return self.path / "paired.json"

    @property
    def trust(self) -> Path:
        """Calibrated answers, abstention, slices, stress and the surest errors."""
        return self.path / "trust.json"

    @property
    def history(self) -> Path:
        """The training log."""
        return self.path / "history.json"

    @property
    def samples(self) -> Path:
        """Some texts with what was answered."""
        return self.path / "samples.json"

    @property
    def samples_markdown(self) -> Path:
        """The same samples, to be read by people."""
        return self.path / "samples.md"

    @property
    def predictions(self) -> Path:
        """What every evaluated row was given."""
        return self.path / "predictions.parquet"

    @property
    def before_predictions(self) -> Path:
        """The rows of ``before``, kept apart until the run is finished."""
        return self.path / "before.parquet"

    @property
    def adapter(self) -> Path:
        """The trained adapter."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """States to resume from."""
        return self.path / "checkpoints"

    @property
    def trackers(self) -> Path:
        """What trackers that write files leave."""
        return self.path / "trackers"

    @property
    def figures(self) -> Path:
        """Figures as PNG and SVG."""
        return self.path / "figures"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def is_model(self) -> bool:
        """Whether it is an adapter or a merged model, with a recipe but without a run around it."""
        return any((self.path / name).is_file() for name in ("adapter_config.json", "config.json"))

    @property
    def told(self) -> tuple[Path, ...]:
        """What tells of the run to those who were given it, without the adapter, the card and the evaluated rows."""
        return (
            self.manifest, self.before, self.after, self.paired, self.trust, self.history, self.samples, self.figures,
            self.report,
        )  # fmt: skip

    def write(self, record: RunRecord) -> None:
        """Write every part of ``record``; each file is replaced whole or not at all.

        The manifest comes last: a folder that has one is a finished run.
        """
        self.write_recipe(record.recipe)
        write_json(self.before, record.before.to_dict())
        write_json(self.after, record.after.to_dict())
        write_json(self.paired, [asdict(one) for one in record.paired])
        if record.trust is not None:
            write_json(self.trust, record.trust.to_dict())
        write_json(self.history, [asdict(one) for one in record.history])
        write_json(self.samples, [asdict(one) for one in record.samples])
        write_json(self.manifest, record.manifest.to_dict())

    def sweep(self) -> None:
        """Remove what only an unfinished run needs: checkpoints, and the rows that ``predictions`` now holds too."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.before_predictions.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete what a run leaves and nothing else, for people may keep more in the folder they named."""
        # The manifest goes first: what a kill leaves half deleted must not look finished.
        own = (
            *self.told, self.samples_markdown, self.predictions, self.before_predictions, self.adapter,
            self.checkpoints, self.trackers, self.card, self.recipe,
        )  # fmt: skip
        for path in own:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write ``recipe`` as YAML."""
        write_text(self.recipe, recipe_to_yaml(recipe))

    def read(self) -> RunRecord:
        """The record of a finished run.

        Raises:
            RunError: no such folder, or a file is missing or not as whinchat wrote it.
        """
        return RunRecord(
            recipe=self.read_recipe(),
            manifest=self.read_manifest(),
            before=self.read_evaluation(self.before),
            after=self.read_evaluation(self.after),
            paired=self._part(self.paired, lambda rows: tuple(_paired(row) for row in rows)),
            history=self.read_history(),
            samples=self._part(self.samples, lambda rows: tuple(Sample(**row) for row in rows)),
            trust=self._part(self.trust, ReliabilityReport.from_dict) if self.trust.is_file() else None,
        )

    def read_recipe(self) -> Recipe:
        """The recipe as it ran.

        Raises:
            RunError: no such folder, or no recipe in it.
            RecipeError: the recipe was changed to one that does not hold.
        """
        self._require(self.recipe)
        return load_recipe(str(self.recipe))

    def read_manifest(self) -> Manifest:
        """Where the numbers come from; raises RunError as ``read`` does."""
        return self._part(self.manifest, Manifest.from_dict)

    def read_evaluation(self, path: Path) -> Evaluation:
        """The evaluation stored at ``before`` or ``after``; raises RunError as ``read`` does."""
        return self._part(path, Evaluation.from_dict)

    def read_history(self) -> tuple[TrainPoint, ...]:
        """The training log; raises RunError as ``read`` does."""
        return self._part(self.history, lambda rows: tuple(TrainPoint(**row) for row in rows))

    def _part(self, path: Path, build: Callable[[Any], T]) -> T:
        self._require(path)
        try:
            return build(json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError) as fault:
            raise RunError(f"{path}: not readable as JSON ({fault}); {self._remedy()}") from None
        except (KeyError, TypeError, AttributeError) as fault:
            raise RunError(
                f"{path}: not what this version of whinchat writes ({fault}); read it with the version in "
                f"{self.manifest.name}, or {self._remedy()}"
            ) from None

    def _require(self, path: Path) -> None:
        if not self.path.is_dir():
            raise RunError(f"{self.path}: no such run folder; make one with `whinchat run RECIPE --out {self.path}`")
        if not path.is_file():
            remedy = "name a folder that `whinchat run` made" if path == self.recipe else self._remedy()
            raise RunError(f"{path}: missing, so this run is not finished; {remedy}")

    def _remedy(self) -> str:
        return f"finish it with `whinchat run {self.recipe} --out {self.path} --resume`"


def _paired(row: dict[str, Any]) -> PairedTest:
    return PairedTest(**{**row, "interval": Interval(**row["interval"])})
