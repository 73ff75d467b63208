"""The export formats by name. Importing this module loads no torch, so the command line can list the formats."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from whinchat.errors import ModelError, RunError, nearest

if TYPE_CHECKING:  # the exporters load torch and transformers
    from whinchat.export.exporter import ExportFormat

PROOF_FILE = "proof.json"
# Share of labels that may differ: in bfloat16, sums in another order round to other values.
DEFAULT_TOLERANCE = 0.02
# Packages that a format needs beyond the core installation.
EXTRA_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "student": ("onnx", "onnxruntime")}
# The exporter of each format, or the module that holds it as EXPORTER and is imported when the format is asked for.
_exporters: dict[str, ExportFormat | str] = {
    "merged": "whinchat.export.merged",
    "classifier": "whinchat.export.sequence_classifier",
    "gguf": "whinchat.export.gguf_export",
    "onnx": "whinchat.export.onnx",
    "student": "whinchat.export.student_export",
}
# The formats among these that hold all questions of a task: their exporter is a ``QuestionExporter``.
_HOLD_ALL_QUESTIONS = ("merged", "gguf")
# Those that hold the student of a classifier: their exporter is a ``StudentExporter``.
_HOLD_STUDENT = ("student",)


def export_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return tuple(_exporters)


def register_export(exporter: ExportFormat) -> None:
    """Add a format, so that ``export_run`` knows it by ``exporter.name``.

    Raises:
        ValueError: the name is taken.
    """
    if exporter.name in _exporters:
        raise ValueError(f"export format {exporter.name!r} exists already; choose another name")
    _exporters[exporter.name] = exporter


def unregister_export(name: str) -> None:
    """Remove the format ``name``; raises KeyError if there is none."""
    del _exporters[name]


def require_format(name: str) -> None:
    """Check that there is a format ``name``, and that its packages are installed; its exporter is not imported.

    Raises:
        RunError: there is no such format.
        ModelError: a package is missing.
    """
    if name not in _exporters:
        choices = ", ".join(_exporters)
        raise RunError(f"export: there is no format {name!r}; choose from {choices}{nearest(name, _exporters)}")
    if missing := [package for package in EXTRA_PACKAGES.get(name, ()) if find_spec(package) is None]:
        raise ModelError(f"{name}: needs {', '.join(missing)}; pip install 'whinchat[export]'")


def holds_all_questions(name: str) -> bool:
    """Return whether the format ``name`` holds all questions of a task, or else one decision."""
    entry = _exporters[name]
    return name in _HOLD_ALL_QUESTIONS if isinstance(entry, str) else entry.holds_all_questions


def holds_student(name: str) -> bool:
    """Return whether the format ``name`` holds the student of a classifier, and not its model."""
    entry = _exporters[name]
    return name in _HOLD_STUDENT if isinstance(entry, str) else entry.holds_student


def find_exporter(name: str) -> ExportFormat:
    """Return the exporter of the format ``name``. Raises as ``require_format`` does."""
    require_format(name)
    entry = _exporters[name]
    exporter: ExportFormat = import_module(entry).EXPORTER if isinstance(entry, str) else entry
    return exporter
