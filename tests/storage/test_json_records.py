"""Stored records: files of an earlier version are read, and written back byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whinchat.errors import RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.label_noise import FoldRecord, Review
from whinchat.evaluation.results import Evaluation, PairedTest, ReliabilityReport
from whinchat.storage.json_records import read_json_record, to_json, write_json_record
from whinchat.storage.review_folder import ReviewPlan
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import Manifest, Sample
from whinchat.storage.training_result import TrainPoint

# Written by commit c263cb3, before records were read and written by pydantic.
GOLDEN = Path(__file__).parent / "golden"

# Keys that came after these files. Records are written with every default spelled out.
NEW_KEYS = {"slices", "stress_edits", "parse", "answered_by", "settings", "generate_first_word", "disagreement"} | {
    "device_notes", "accelerator", "accelerator_memory_bytes", "peak_accelerator_bytes", "adapted_share",
    "prompt_date", "date", "target_parameters", "decision", "answer", "drop_empty", "publish",
    "questions", "text", "answers", "answer_map", "delimiter", "layers", "layers_to_transform", "memory_budget",
    "generation_rows", "score_of_generated", "soft_labels", "chance_ece", "learned_texts",
}  # fmt: skip

KINDS = {
    "before.json": Evaluation,
    "after.json": Evaluation,
    "manifest.json": Manifest,
    "paired.json": tuple[PairedTest, ...],
    "trust.json": ReliabilityReport,
    "history.json": tuple[TrainPoint, ...],
    "samples.json": tuple[Sample, ...],
    "review.json": Review,
    "fold.json": FoldRecord,
    "plan.json": ReviewPlan,
}


def without_new_keys(content: Any, old: Any) -> Any:
    """``content`` without the keys of ``NEW_KEYS`` that ``old`` lacks."""
    if isinstance(content, list) and isinstance(old, list):
        return [without_new_keys(*pair) for pair in zip(content, old, strict=True)]
    if not isinstance(content, dict) or not isinstance(old, dict):
        return content
    return {
        key: without_new_keys(value, old.get(key))
        for key, value in content.items()
        if key in old or key not in NEW_KEYS
    }


def as_before(path: Path) -> str:
    """A file that was written now, as the version that wrote ``GOLDEN`` would have written it."""
    old = json.loads((GOLDEN / path.name).read_text(encoding="utf-8"))
    content = without_new_keys(json.loads(path.read_text(encoding="utf-8")), old)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", KINDS)
def test_stored_json_comes_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    record = read_json_record(GOLDEN / name, KINDS[name], "")
    write_json_record(tmp_path / name, record)
    assert as_before(tmp_path / name) == (GOLDEN / name).read_text(encoding="utf-8")


def test_a_stored_run_comes_back_byte_for_byte(tmp_path: Path) -> None:
    record = RunFolder(GOLDEN).read()
    RunFolder(tmp_path).write(record)
    for file in tmp_path.glob("*.json"):
        assert as_before(file) == (GOLDEN / file.name).read_text(encoding="utf-8")
    assert record.reliability is not None
    assert record.reliability.calibrated.mode == "calibrated"
    assert record.after.generate_first_word is None, "an earlier version did not measure it"


def test_a_calibration_with_score_bins_is_read_and_written_without_them(tmp_path: Path) -> None:
    calibrator = Calibrator.load(GOLDEN, ("negative", "neutral", "positive"))
    calibrator.save(tmp_path)
    stored = json.loads((GOLDEN / "calibration.json").read_text(encoding="utf-8"))
    assert stored.pop("bins"), "version 0.1 stored them"
    written = json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8"))
    assert list(written) == [*stored, "decision"]
    assert without_new_keys(written, stored) == stored
    assert Calibrator.load(tmp_path, calibrator.labels) == calibrator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pace": 1},
            r"after\.json: not what this version of whinchat writes \(pace: .*\); read it with .* run again",
        ),
        ({"split": None}, r"after\.json: not what this version of whinchat writes \(split: .*string"),
        ({"score": {"n": 3}}, r"not what this version of whinchat writes \(score: .*accuracy, macro_f1, macro_recall"),
    ],
)
def test_a_foreign_record_names_the_key(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "after.json"
    content = json.loads((GOLDEN / "after.json").read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_json_record(path, Evaluation, "run again")


def test_unreadable_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.json: cannot be read \(No such file or directory\); run again"):
        read_json_record(tmp_path / "none.json", Evaluation, "run again")
    (tmp_path / "half.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"half\.json: not readable as JSON \(.*\); run again"):
        read_json_record(tmp_path / "half.json", Evaluation, "run again")
    (tmp_path / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(RunError, match=r"deep\.json: not readable as JSON \(.*\); run again"):
        read_json_record(tmp_path / "deep.json", Evaluation, "run again")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999"])
def test_a_record_with_a_number_that_is_not_finite_is_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(f'[{{"step": 1, "epoch": 1, "loss": {number}}}]', encoding="utf-8")
    with pytest.raises(RunError, match=r"history\.json: .*\(0\.loss: .*finite number\)"):
        read_json_record(path, tuple[TrainPoint, ...], "run again")


def test_numbers_stay_as_they_are() -> None:
    point = TrainPoint(step=1, epoch=1, loss=0.1)
    assert json.dumps(to_json(point)) == (
        '{"step": 1, "epoch": 1, "loss": 0.1, "learning_rate": null, "grad_norm": null, "eval_loss": null, '
        '"eval_macro_f1": null}'
    )
