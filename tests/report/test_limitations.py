"""The limitations on card and report follow from the record."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.run_records import labels_of, run_record, with_manifest
from whinchat.evaluation.results import LabelMetrics, SliceMetrics, StressResult
from whinchat.recipe.data_config import DataConfig
from whinchat.report.figures.dots import draw_per_label
from whinchat.report.figures.style import LIGHT
from whinchat.report.formatting import format_number
from whinchat.report.limitations import limitations
from whinchat.report.tables import per_label_table


def test_limitations_follow_from_the_record() -> None:
    record = run_record()
    assert "optimistic" not in " ".join(limitations(record))
    notes = " ".join(limitations(with_manifest(record, selected_on="validation", load_in="nf4")))
    assert "selected on validation, the split that these metrics were measured on, so they are optimistic" in notes
    assert "NF4" in notes
    score = record.after.score
    wide = {**score.intervals, "macro_f1": replace(score.intervals["macro_f1"], low=0.1, high=0.9)}
    after = replace(record.after, score=replace(score, intervals=wide), split_fingerprint="other")
    notes = " ".join(limitations(replace(record, after=after)))
    assert "is wide (0.100 to 0.900), because it rests on only 600 texts" in notes
    assert "evaluated on different texts before and after training" in notes


def test_limitations_name_labels_without_texts() -> None:
    record = run_record(trusted=False)
    assert not any("no texts in" in note for note in limitations(record))
    first, *others = record.after.score.per_label
    absent = (LabelMetrics(first.label, None, None, None, 0), *others)
    score = replace(record.after.score, per_label=absent)
    record = replace(record, after=replace(record.after, score=score))
    sentence = (
        f"{first.label} has no texts in validation; macro-F1 and macro recall are averages over the other labels."
    )
    assert sentence in limitations(record)
    assert not any(f"{first.label} (0)" in note for note in limitations(record))
    assert per_label_table(record).rows[0][1:] == (
        "0",
        *(
            cell
            for old in ("precision", "recall", "f1")
            for cell in (format_number(getattr(record.before.score.per_label[0], old)), "not measured")
        ),
    )
    assert draw_per_label(record.before.score, score, "title", LIGHT) is not None


def test_limitations_tell_where_scoring_and_generation_disagree() -> None:
    record = run_record()
    for share, told in ((None, False), (0.5, False), (0.51, True), (1.0, True)):
        notes = limitations(replace(record, after=replace(record.after, disagreement=share)))
        assert any(note.startswith("Label scoring and free generation give different labels") for note in notes) is told
    assert any("for 100 % of the texts of validation" in note for note in notes)


def test_limitations_tell_which_texts_the_model_had_learned_before() -> None:
    report = {**run_record().manifest.data_report, "learned": {"validation": 3, "test": 2}}
    record = with_manifest(run_record(), data_report=report)
    notes = " ".join(limitations(record))
    assert " had learned 3 texts of validation before this training" in notes
    assert "of test" not in notes
    on_test = replace(record, after=replace(record.after, split="test"))
    notes = " ".join(limitations(on_test))
    assert " had learned 2 texts of test before this training" in notes
    assert " had learned 3 texts of validation before, on which the probabilities were calibrated" in notes


def test_limitations_tell_of_leaks_shifts_rare_labels_and_no_gain() -> None:
    record = run_record(labels_of(25))
    recipe = record.recipe.model_copy(update={"data": DataConfig(source="x", drop_leaked=False)})
    facts = record.manifest.splits["validation"]
    shifted = replace(facts, counts=dict.fromkeys(facts.counts, 0) | {record.recipe.task.labels[0]: facts.rows})
    record = with_manifest(replace(record, recipe=recipe), splits={**record.manifest.splits, "validation": shifted})
    worse = replace(record.paired[0], interval=replace(record.paired[0].interval, low=-0.1))
    notes = " ".join(limitations(replace(record, paired=(worse,))))
    for part in (
        "3 texts of validation also occur in train",
        "fewer than 30 texts",
        "A reliable gain in macro-F1 was not shown",
        "label shares of train and validation differ clearly",
    ):
        assert part in notes


def test_limitations_tell_of_weak_slices_and_fragile_predictions() -> None:
    record = run_record()
    assert record.reliability is not None
    accuracy = record.reliability.calibrated.accuracy
    trust = replace(
        record.reliability,
        fitted_rows=90,
        slices=(
            SliceMetrics("with a hashtag", 60, 0.1, accuracy - 0.1, 0.5),
            SliceMetrics("with a mention", 40, 0.1, accuracy - 0.2, 0.4),
            SliceMetrics("with negation", 60, 0.1, accuracy + 0.1, 0.8),
        ),
        stress=(StressResult("lower case", 200, 0.25, 0.7, 0.6), StressResult("one typo", 200, 0.02, 0.7, 0.7)),
    )
    notes = " ".join(limitations(replace(record, reliability=trust)))
    assert f"overall {accuracy:.3f} on these texts: with a hashtag ({accuracy - 0.1:.3f})." in notes, (
        "too few, or not worse"
    )
    assert "lower case (25.0 % of predictions changed)." in notes
    assert "fitted on only 90 texts" in notes
    assert "clearly lower" not in " ".join(limitations(replace(record, reliability=None)))
