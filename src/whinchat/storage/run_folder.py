"""The run folder: its files, and how they are written and read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from whinchat.data.learned_texts import LEARNED_TEXTS
from whinchat.errors import RunError, nearest
from whinchat.evaluation.question_results import QuestionsEvidence
from whinchat.evaluation.results import Baseline, Evaluation, Metrics, PairedTest, ReliabilityReport
from whinchat.output_files import remove_folder, sweep_drafts, writing
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import write_text
from whinchat.storage.folder_entry import FolderEntry
from whinchat.storage.folder_update import finish_update
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.locking import lock_folder
from whinchat.storage.questions_record import QUESTIONS_FOLDER, QuestionsRecord
from whinchat.storage.run_comparison import StoredComparison
from whinchat.storage.run_record import Manifest, RunRecord, Sample
from whinchat.storage.student_files import usable_student
from whinchat.storage.training_result import TrainPoint

T = TypeVar("T")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. No other class knows their names."""

    path: Path

    recipe = FolderEntry("recipe.yaml", "The recipe of the run, with every default spelled out.")
    manifest = FolderEntry(
        "manifest.json", "Versions, seeds, sources, times and memory; a folder with a manifest holds a finished run."
    )
    before = FolderEntry("before.json", "The evaluation before training.")
    after = FolderEntry("after.json", "The evaluation after training.")
    paired = FolderEntry("paired.json", "Tests of the answers after training against those before, on the same rows.")
    reliability = FolderEntry(
        "trust.json",
        "The reliability report: calibrated answers, abstention, slices, stress tests and confident errors.",
    )
    baselines = FolderEntry(
        "baselines.json", "The most frequent label and TF-IDF with logistic regression, measured on the same rows."
    )
    questions = FolderEntry(
        "questions.json", "The metrics of each question, by its type, for a run whose task asks several."
    )
    decisions = FolderEntry(
        QUESTIONS_FOLDER,
        "The evidence of each decision of such a run, laid out like a run folder: NAME of the question, and below it "
        "01, 02 and so on for the options of a multi question.",
    )
    comparison = FolderEntry("comparison.json", "The latest comparison with other runs, by `whinchat compare`.")
    history = FolderEntry("history.json", "The training log.")
    samples = FolderEntry("samples.json", "Some texts with their answers before and after training.")
    samples_markdown = FolderEntry("samples.md", "The samples as a Markdown table.")
    predictions = FolderEntry(
        "predictions.parquet",
        "Every evaluated row with its label, what `whinchat predict` answers, and scores before and after training.",
    )
    before_predictions = FolderEntry(
        "before.parquet", "The predictions before training, kept until the run is finished."
    )
    adapter = FolderEntry("adapter", "The trained adapter.")
    learned = FolderEntry(
        LEARNED_TEXTS,
        "A hash of each text that the model has learned, by which later measurements on these texts are noticed; it is "
        "not published.",
    )
    training_rows = FolderEntry(
        "training_rows.txt",
        "The fingerprint of the training rows, by which a resumed training notices other "
        "rows; removed when the run is finished.",
    )
    checkpoints = FolderEntry("checkpoints", "Training checkpoints to resume from; removed when the run is finished.")
    trackers = FolderEntry("trackers", "Files of the experiment trackers that write files.")
    figures = FolderEntry("figures", "The figures of card and report, as PNG and SVG.")
    card = FolderEntry("README.md", "The model card.")
    report = FolderEntry("report.html", "The report, one HTML page.")

    @property
    def is_model(self) -> bool:
        """Whether the folder is an adapter or a merged model, with a recipe but without the files of a run."""
        return any((self.path / name).is_file() for name in ("adapter_config.json", "config.json"))

    @property
    def whole_run(self) -> "RunFolder | None":
        """The run with questions whose decision the folder holds the evidence of; None for any other folder."""
        steps = pairwise(self.path.absolute().parents[:3])
        runs = (RunFolder(above) for below, above in steps if below.name == QUESTIONS_FOLDER)
        return next((run for run in runs if run.questions.is_file()), None)

    def require_whole(self) -> None:
        """Check that the folder is not the evidence of one decision of a run.

        Raises:
            RunError: it is.
        """
        if (run := self.whole_run) is not None:
            raise RunError(f"{self.path}: is the evidence of one decision; name the whole run, {run.path}")

    @property
    def public_files(self) -> tuple[Path, ...]:
        """Files about the run that a push publishes beside adapter and card; the evaluated rows stay private."""
        return (
            self.manifest, self.before, self.after, self.paired, self.reliability, self.baselines, self.history,
            self.samples, self.figures, self.report, self.questions,
        )  # fmt: skip

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for this process alone, and mend first what a process left that was killed.

        Every function that writes into a run folder holds it, from its start to its end.

        Raises:
            RunError: another process writes into the folder.
            OutputError: the folder cannot be written.
        """
        with lock_folder(self.path):
            inner = (folder for folder in self.decisions.rglob("*") if folder.is_dir())
            for folder in (self.path, self.adapter, self.figures, *inner):
                sweep_drafts(folder)
            finish_update(self.path)
            yield

    @contextmanager
    def hold_finished(self) -> Iterator[None]:
        """Hold the folder as ``hold`` does; there must be a finished run in it.

        Raises:
            RunError: there is none, or another process writes into the folder.
            OutputError: the folder cannot be written.
        """
        self._require(self.recipe)
        self._require(self.manifest)
        with self.hold():
            yield

    def write(self, record: RunRecord) -> None:
        """Write every part of ``record``, each file atomically; the manifest last, for it marks a finished run."""
        self.write_calibration(record)
        write_json_record(self.before, record.before)
        write_json_record(self.after, record.after)
        write_json_record(self.history, record.history)
        if record.comparison is not None:
            write_json_record(self.comparison, record.comparison)
        else:
            with writing(self.comparison):
                self.comparison.unlink(missing_ok=True)
        write_json_record(self.manifest, record.manifest)

    def write_questions(self, record: QuestionsRecord) -> None:
        """Write every part of ``record``, each file atomically; the manifest last, for it marks a finished run."""
        self.write_recipe(record.recipe)
        write_json_record(self.questions, record.questions)
        write_json_record(self.history, record.history)
        write_json_record(self.manifest, record.manifest)

    def read_questions(self) -> QuestionsRecord:
        """Read the record of a finished run whose task asks several questions; raises RunError as ``read`` does."""
        return QuestionsRecord(
            recipe=self.read_recipe(),
            manifest=self.read_manifest(),
            history=self.read_history(),
            questions=self._read(self.questions, QuestionsEvidence),
            cascade=usable_student(self.adapter),
        )

    def write_calibration(self, record: RunRecord) -> None:
        """Write the parts of ``record`` that a new calibration changes: recipe, answers, and tests of the answers."""
        self.write_recipe(record.recipe)
        write_json_record(self.paired, record.paired)
        write_json_record(self.samples, record.samples)
        if record.baselines:
            write_json_record(self.baselines, record.baselines)
        if record.reliability is not None:
            write_json_record(self.reliability, record.reliability)

    @property
    def has_leftovers(self) -> bool:
        """Whether a finished run still has files that only an unfinished one needs."""
        return any(path.exists() for path in (self.checkpoints, self.before_predictions, self.training_rows))

    def sweep(self) -> None:
        """Remove what only an unfinished run needs: checkpoints, predictions before training, training rows."""
        with writing(self.path):
            remove_folder(self.checkpoints)
            self.before_predictions.unlink(missing_ok=True)
            self.training_rows.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the files of the run except the recipe. Other files in the folder belong to the user and stay.

        The recipe marks the folder as a run folder, so it stays until the next run's recipe takes its place.
        """
        # The manifest goes first, so that a half deleted run does not look finished.
        run_files = (
            *self.public_files, self.decisions, self.comparison, self.samples_markdown, self.predictions,
            self.before_predictions, self.adapter, self.checkpoints, self.trackers, self.card, self.learned,
            self.training_rows,
        )  # fmt: skip
        with writing(self.path):
            for path in run_files:
                if path.is_dir():
                    remove_folder(path)
                else:
                    path.unlink(missing_ok=True)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write ``recipe`` as YAML."""
        write_text(self.recipe, recipe_to_yaml(recipe))

    def read_record(self) -> RunRecord | QuestionsRecord:
        """Read the record of a finished run, whether its task has labels or questions; raises RunError as ``read``."""
        return self.read_questions() if self.read_recipe().task.questions else self.read()

    def read(self) -> RunRecord:
        """Read the record of a finished run.

        Raises:
            RunError: the folder or a file is missing, a file is not as whinchat writes it, or the task of the run asks
                several questions, whose record ``read_questions`` reads.
        """
        recipe = self.read_recipe()
        if names := tuple(recipe.task.questions):
            raise RunError(
                f"{self.path}: is a run with questions, which this command does not take; name one of its decisions, "
                f"such as {self.decisions / names[0]}"
            )
        return RunRecord(
            recipe=recipe,
            manifest=self.read_manifest(),
            before=self.read_evaluation(self.before),
            after=self.read_evaluation(self.after),
            paired=self._read(self.paired, tuple[PairedTest, ...]),
            history=self.read_history(),
            samples=self.read_samples(),
            reliability=self._read(self.reliability, ReliabilityReport) if self.reliability.is_file() else None,
            comparison=self._read(self.comparison, StoredComparison) if self.comparison.is_file() else None,
            baselines=self._read(self.baselines, tuple[Baseline, ...]) if self.baselines.is_file() else (),
            cascade=usable_student(self.adapter),
        )

    def read_recipe(self) -> Recipe:
        """Read the recipe of the run.

        Raises:
            RunError: the folder or its recipe is missing.
            RecipeError: the recipe is not valid.
        """
        self._require(self.recipe)
        return load_recipe(str(self.recipe))

    def read_manifest(self) -> Manifest:
        """Read the manifest. Raises RunError as ``read`` does."""
        return self._read(self.manifest, Manifest)

    def read_shipped(self) -> Metrics:
        """Read the metrics of the answers that ``whinchat predict`` gives. Raises RunError as ``read`` does."""
        if self.reliability.is_file():
            return self._read(self.reliability, ReliabilityReport).calibrated
        return self.read_evaluation(self.after).score

    def read_evaluation(self, path: Path) -> Evaluation:
        """Read the evaluation at ``path``: ``self.before`` or ``self.after``. Raises RunError as ``read`` does."""
        return self._read(path, Evaluation)

    def read_history(self) -> tuple[TrainPoint, ...]:
        """Read the training log. Raises RunError as ``read`` does."""
        return self._read(self.history, tuple[TrainPoint, ...])

    def read_samples(self) -> tuple[Sample, ...]:
        """Read the sample texts with their answers; raises RunError as ``read`` does."""
        return self._read(self.samples, tuple[Sample, ...])

    def _read(self, path: Path, kind: type[T]) -> T:
        self._require(path)
        return read_json_record(path, kind, self._remedy())

    def _require(self, path: Path) -> None:
        # A new calibration replaces the files of all decisions together with those of the whole run.
        for folder in (self, self.whole_run):
            if folder is not None:
                finish_update(folder.path)
        if not self.path.is_dir():
            others = (str(run.parent) for run in self.path.parent.glob("*/recipe.yaml"))
            raise RunError(
                f"{self.path}: no such run folder; make one with `whinchat run RECIPE --out {self.path}`"
                f"{nearest(str(self.path), others, 0.8).removesuffix('.')}"
            )
        if not path.is_file():
            remedy = "name a folder that `whinchat run` made" if path == self.recipe else self._remedy()
            raise RunError(f"{path}: missing, so this run is not finished; {remedy}")

    def _remedy(self) -> str:
        return f"finish it with `whinchat run {self.recipe} --out {self.path} --resume`"
