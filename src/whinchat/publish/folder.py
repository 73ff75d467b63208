"""The run folder: what lies where, and how it is written and read back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from whinchat.errors import RunError
from whinchat.evaluation.records import Evaluation, Interval, Paired
from whinchat.evaluation.trust import Trust
from whinchat.publish.markdown import table
from whinchat.publish.records import Manifest, RunRecord, Sample
from whinchat.publish.tables import samples as samples_table
from whinchat.recipe.files import load_recipe, recipe_to_yaml
from whinchat.recipe.recipe import Recipe
from whinchat.training.records import TrainPoint

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A trained classifier on disk.

    Attributes:
        recipe: its recipe; where the weights are merged, ``backbone`` names them.
        folder: where calibration and weights lie.
        has_adapter: an adapter lies there, and no merged weights.
    """

    recipe: Recipe
    folder: Path
    has_adapter: bool = True


def find_classifier(path: Path) -> Found:
    """What is in ``path``: a run, its adapter's folder alone, or a merged model that whinchat exported.

    Raises:
        RunError: none of them, or the run is not finished.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    if (path / "adapter_config.json").is_file():
        return Found(recipe, path)
    if (path / "config.json").is_file():
        merged = {"model": str(path), "revision": None}
        return Found(
            recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=merged)}), path, has_adapter=False
        )
    if not folder.adapter.is_dir():
        raise RunError(f"{path}: has no adapter/, so this run is not finished; go on with --resume")
    return Found(recipe, folder.adapter)


def model_files(folder: Path) -> list[Path]:
    """The files of the adapter or merged model in ``folder``; on the hub, what tells of a run lies beside them."""
    others = {one.name for one in (*RunFolder(folder).told, RunFolder(folder).card)}
    files = (one for one in sorted(folder.iterdir()) if one.is_file() and not one.name.startswith("."))
    return [one for one in files if one.name not in others]


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
        self.write_samples(record.samples)
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

    def write_samples(self, samples: tuple[Sample, ...]) -> None:
        """Write ``samples`` for programs and for people."""
        write_json(self.samples, [asdict(one) for one in samples])
        body = table(samples_table(samples)) if samples else "Not measured."
        write_text(self.samples_markdown, f"# Sample answers\n\n{body}\n")

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
            trust=self._part(self.trust, Trust.from_dict) if self.trust.is_file() else None,
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


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; a reader sees the old file or the new one, never a part.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as fault:
        raise RunError(
            f"{path}: a number is NaN or infinite ({fault}); leave out what was not measured, and if it is the loss, "
            "training diverged: lower train.learning_rate"
        ) from None
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text``, as whole as ``write_json`` does."""
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a draft beside ``path``, then put it in the place of ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o666 & ~_umask())  # mkstemp lets no one else read
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _paired(row: dict[str, Any]) -> Paired:
    return Paired(**{**row, "interval": Interval(**row["interval"])})
