"""The ways of answering that card and report show for a run."""

from whinchat.evaluation.results import GENERATION_MODES, Metrics, Mode
from whinchat.recipe.schema import Reference
from whinchat.storage.run_record import RunRecord


def reported_modes(record: RunRecord) -> tuple[Mode, ...]:
    """Return the ways of answering to report: what ``whinchat predict`` answers, label scores, generated answers."""
    calibrated: tuple[Mode, ...] = () if record.reliability is None else ("calibrated",)
    generated = record.before.generate or record.after.generate
    return (*calibrated, "score", "generate", *(("generate_first_word",) if generated else ()))


def metrics_of_mode(record: RunRecord, mode: Mode) -> tuple[Metrics | None, Metrics | None]:
    """Return the metrics of one way of answering before and after training; None where it was not measured.

    Before training there is nothing to calibrate, so label scoring stands beside calibrated answers.
    """
    if mode == "calibrated":
        return record.before.score, None if record.reliability is None else record.reliability.calibrated
    return record.before.of_mode(mode), record.after.of_mode(mode)


def generation_mode(record: RunRecord) -> Mode:
    """Return the reading of generated answers that stands first, as ``evaluate.parse`` of the recipe says.

    Records of earlier versions hold the reading of the whole answer only.
    """
    mode = GENERATION_MODES[record.recipe.evaluate.parse]
    return "generate" if record.after.of_mode(mode) is None else mode


def comparable_mode(reference: Reference) -> Mode | None:
    """Return the way of answering whose figures compare with the published ones; None if it is not known."""
    if reference.answered_by is None:
        return None
    return "score" if reference.answered_by == "score" else GENERATION_MODES[reference.answered_by]
