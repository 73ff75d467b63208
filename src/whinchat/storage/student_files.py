"""The files of a student on disk: whether they are whole, and belong to the classifier beside which they lie."""

from contextlib import suppress
from pathlib import Path

from whinchat.checksums import check_files, file_sha256
from whinchat.errors import RunError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.cascade_results import CASCADE_FILE, CASCADE_FILES, CASCADE_REMEDY, CascadeFacts
from whinchat.storage.json_records import read_json_record


def calibration_digest(folder: Path) -> str:
    """Return the SHA-256 of the calibration in a classifier's folder; an empty string where there is none."""
    file = folder / CALIBRATION_FILE
    return file_sha256(file) if file.is_file() else ""


def require_student(folder: Path) -> CascadeFacts | None:
    """Read ``cascade.json`` in a classifier's folder; None for a classifier without a student.

    Raises:
        RunError: a file of the student is lost or damaged, or the classifier was calibrated again since.
    """
    check_files(folder, dict.fromkeys(CASCADE_FILES, CASCADE_REMEDY), only=CASCADE_FILES)
    file = folder / CASCADE_FILE
    if not file.is_file():
        return None
    facts = read_json_record(file, CascadeFacts, CASCADE_REMEDY)
    if facts.calibration != calibration_digest(folder):
        raise RunError(
            f"{file}: made before {CALIBRATION_FILE} changed, so the student imitates answers that the classifier no "
            f"longer gives; {CASCADE_REMEDY}, and `whinchat distill RUN --remove` removes it"
        )
    return facts


def read_student(folder: Path) -> CascadeFacts:
    """Read ``cascade.json`` in the folder of a classifier that is to have a student.

    Raises:
        RunError: there is none, or as ``require_student``.
    """
    if (facts := require_student(folder)) is None:
        raise RunError(f"{folder}: this classifier has no student; {CASCADE_REMEDY}")
    return facts


def usable_student(folder: Path, calibration: str | None = None) -> CascadeFacts | None:
    """Read ``cascade.json`` for card and report; None where no student answers.

    Args:
        folder: the folder of the classifier.
        calibration: the digest of a calibration that is to replace the one in ``folder``.
    """
    file = folder / CASCADE_FILE
    with suppress(RunError):  # the same fault is raised where the classifier is loaded or pushed
        facts = read_json_record(file, CascadeFacts, CASCADE_REMEDY) if file.is_file() else None
        wanted = calibration_digest(folder) if calibration is None else calibration
        return facts if facts is not None and facts.calibration == wanted else None
    return None
