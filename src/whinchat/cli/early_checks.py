"""What each command refuses before the libraries of its model are loaded, which takes ten seconds of CPU.

The functions of whinchat that the commands call refuse the same, by the same functions, but they import torch,
transformers, PEFT and scikit-learn first. This module imports none of these, so that a wrong path, a missing column or
package, or a folder in use costs no waiting. Commands that train check and work inside ``reading_once``, so that the
data of a recipe are read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.spec import ArenaSpec, require_encoders, resolve_arena
from whinchat.arena.subsets import check_rows
from whinchat.data.dataset import Corpus
from whinchat.data.formats.table_registry import open_table
from whinchat.data.packages import PACKAGE_PREFIX
from whinchat.data.sources import load_corpus, load_labelled, require_row
from whinchat.data.splits import make_folds
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError, RunError
from whinchat.export.export_registry import PROOF_FILE, holds_student, require_format
from whinchat.export.exported_decision import choose_decision
from whinchat.hub.client import connect_to_hub, fetch_classifier, require_repo_id
from whinchat.models.requirements import require_backbone
from whinchat.output_files import require_writable
from whinchat.pipelines.output_folder import IfExists, check_run_folder, hold_run_folder
from whinchat.pipelines.stored_runs import calibration_rows, distillation_data, evaluated_rows, runs_by_name
from whinchat.pipelines.tune_data import load_tune_data
from whinchat.recipe.model_config import BackboneConfig
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.recipe.search_space import SearchSpace
from whinchat.server.startup import find_runs, listen, require_server_packages
from whinchat.storage.locate import SavedClassifier, find_classifier
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.student_files import read_student, require_student
from whinchat.storage.tune_folder import TuneFolder, check_tune_folder, require_optuna
from whinchat.training.launch import process_rank
from whinchat.training.training_needs import require_trainable

if TYPE_CHECKING:
    from whinchat.storage.review_folder import AnyReview


def check_run(recipe: Recipe, path: Path, existing: IfExists, *, evaluates: bool = True) -> None:
    """Check the folder, the data and the packages of ``whinchat run``, or of ``train``, which does not evaluate."""
    folder = RunFolder(path)
    if existing == "resume" and folder.manifest.is_file():
        check_run_folder(recipe, path, existing)
        return
    if process_rank() == 0:  # the first of several processes writes the folder
        with hold_run_folder(folder):
            check_run_folder(recipe, path, existing)
    corpus = _load_trainable(recipe)
    if evaluates:
        corpus.split(recipe.evaluate.split)


def check_review(recipe: Recipe, path: Path, folds: int, existing: IfExists) -> AnyReview | None:
    """Check the folder, the data and the packages of ``whinchat review``.

    Returns:
        A finished review that is only to be resumed, else None.
    """
    # Loads numpy and pyarrow, which no other command needs so early.
    from whinchat.storage.review_folder import ReviewFolder, check_review_folder

    if folds < 2:
        return None  # ``review_run`` says what folds are for, before it does anything
    folder = ReviewFolder(path)
    if existing == "resume" and folder.review.is_file():
        check_review_folder(recipe, folds, folder, existing)
        return folder.read_finished()
    with folder.hold():
        check_review_folder(recipe, folds, folder, existing)
    corpus = _load_trainable(recipe)
    make_folds(corpus.train, recipe.task, folds, recipe.data.split_seed, corpus.source)
    return None


def check_tune(recipe: Recipe, space: SearchSpace, folder: TuneFolder, existing: IfExists) -> None:
    """Check the packages, the folder and the data of ``whinchat tune``."""
    require_optuna()
    with folder.hold():
        check_tune_folder(recipe, space, folder, existing)
    require_trainable(recipe, load_tune_data(recipe).corpus)


def check_arena(spec: ArenaSpec, path: Path, *, show: bool) -> None:
    """Check the recipes and the folder of ``whinchat arena``, and the encoders and data of a new arena."""
    arena, folder = resolve_arena(spec), ArenaFolder(path)
    if folder.spec.is_file() or show:
        return
    require_encoders(spec, [method.name for method in spec.methods])
    with folder.hold():
        folder.require_own()
    check_rows(load_corpus(arena.base), arena.base, spec.rows, spec.seeds)


def check_example(recipe: Recipe, row: int) -> None:
    """Check the data of ``whinchat inspect``."""
    require_row(load_corpus(recipe).train, row)
    require_backbone(recipe.backbone)


def check_model(model: str) -> None:
    """Check the folder or the package of ``whinchat doctor MODEL``."""
    if model.startswith((".", "/", "~", PACKAGE_PREFIX)):
        require_backbone(BackboneConfig(model=model))


def check_classifier(run: Path, *, student: bool = False) -> SavedClassifier:
    """Return the classifier of ``whinchat predict``, if it and the packages for it are there.

    Args:
        run: its folder, or OWNER/NAME on the hub.
        student: whether its student is to answer, if it has one.
    """
    saved = find_classifier(fetch_classifier(run), with_questions=True)
    if student:
        require_student(saved.folder)
    require_backbone(saved.recipe.backbone)
    return saved


def check_evaluation(run: Path, source: str | None, overrides: Sequence[str]) -> None:
    """Check the classifier and the data of ``whinchat evaluate``, which also measures what ``train`` made."""
    path = fetch_classifier(run)
    evaluated_rows(path, source, overrides)
    require_backbone(find_classifier(path, to_answer=False, with_questions=True).recipe.backbone)


def check_calibration(run: Path, metric: MetricName | None, wanted_accuracy: float | None) -> None:
    """Check the run and the data of ``whinchat calibrate``."""
    folder = RunFolder(run)
    with folder.hold_finished():
        _, recipe, _, _ = calibration_rows(folder, metric, wanted_accuracy)
    require_backbone(recipe.backbone)


def check_distillation(run: Path, unlabelled: Path | None, text_column: str | None) -> None:
    """Check the run, its data and the table of ``whinchat distill``."""
    folder = RunFolder(run)
    with folder.hold_finished():
        _, recipe, _ = distillation_data(folder)
    if unlabelled is not None:
        open_table(unlabelled, TextColumns.of(recipe.data, text_column))
    require_backbone(recipe.backbone)


def check_comparison(runs: Sequence[Path], figures: Path | None) -> None:
    """Check the runs of ``whinchat compare``, and that its figure can be written."""
    for folder in runs_by_name(runs).values():
        folder.read()
    if figures is not None:
        require_writable(figures / "comparison.png")


def check_export(run: Path, kind: str, out: Path, question: str | None, data: Path | None) -> None:
    """Check the format, the classifier, the question, the folder and the texts of ``whinchat export``."""
    require_format(kind)
    require_writable(out)
    if out.exists() and not (out / PROOF_FILE).is_file():
        raise RunError(f"{out}: exists already; delete it, or choose another --out")
    saved = check_classifier(run)
    choose_decision(saved.recipe.task, kind, question)
    if holds_student(kind):
        read_student(saved.folder)
    if data is not None:
        open_table(data, TextColumns.of(saved.recipe.data))
        return
    try:
        load_labelled(saved.recipe)
    except DataError as fault:
        raise DataError(f"{fault}; or give a table of texts for the proof with --data") from None


def check_push(run: Path, repo_id: str, *, dry_run: bool) -> None:
    """Check the name, the run and the token of ``whinchat push``."""
    require_repo_id(repo_id)
    folder = RunFolder(run)
    folder.read_record()
    require_student(folder.adapter)
    if not dry_run:
        connect_to_hub(repo_id)


def check_server(runs: Mapping[str, Path], host: str, port: int) -> None:
    """Check the packages, the address and the runs of ``whinchat serve``."""
    require_server_packages()
    listen(host, port).close()
    _, saved = find_runs(runs)
    for classifier in saved.values():
        require_backbone(classifier.recipe.backbone)


def _load_trainable(recipe: Recipe) -> Corpus:
    corpus = load_corpus(recipe)
    require_trainable(recipe, corpus)
    return corpus
