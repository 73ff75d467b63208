"""The ways of answering that card and report show for a run."""

from dataclasses import dataclass

from whinchat.evaluation.results import GENERATION_MODES, Evaluation, Metrics, Mode
from whinchat.recipe.schema import Reference
from whinchat.report.formatting import MODE_NAMES
from whinchat.storage.run_record import RunRecord
from whinchat.wording import counted


@dataclass(frozen=True)
class ReportedMode:
    """A way of answering as tables show it.

    Attributes:
        mode: the way of answering.
        title: its name, with the number of texts where they are a sample of those that were evaluated.
        before, after: its metrics before and after training; None where it was not measured.
    """

    mode: Mode
    title: str
    before: Metrics | None
    after: Metrics | None


def modes_to_report(record: RunRecord) -> tuple[ReportedMode, ...]:
    """Return ``reported_modes`` with their metrics.

    Where free generation answered a sample, label scores of the same texts stand before it, because those of all texts
    do not compare with it.
    """
    modes = [
        ReportedMode(mode, mode_title(record.after, mode), *metrics_of_mode(record, mode))
        for mode in reported_modes(record)
    ]
    if record.after.score_of_generated is not None:
        title = sample_title(MODE_NAMES["score"], record.after.score_of_generated)
        same_texts = record.before.score_of_generated, record.after.score_of_generated
        place = [one.mode for one in modes].index("generate")
        modes.insert(place, ReportedMode("score", title, *same_texts))
    return tuple(modes)


def mode_title(evaluation: Evaluation, mode: Mode) -> str:
    """Return the name of a way of answering, such as "free generation (sample of 200 texts)"."""
    sample = evaluation.score_of_generated
    if sample is None or mode not in GENERATION_MODES.values():
        return MODE_NAMES[mode]
    return sample_title(MODE_NAMES[mode], sample)


def sample_title(name: str, sample: Metrics) -> str:
    """Return ``name`` with the number of texts of a sample in brackets."""
    start = f"{name.removesuffix(')')}, " if name.endswith(")") else f"{name} ("
    return f"{start}sample of {counted(sample.n, 'text')})"


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
