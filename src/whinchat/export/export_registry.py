"""The export formats by name. Importing this module loads no torch, so the command line can list the formats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from whinchat.errors import RunError, nearest

if TYPE_CHECKING:  # the exporters load torch and transformers
    from whinchat.export.exporter import Exporter

# Share of labels that may differ: in bfloat16, sums in another order round to other values.
DEFAULT_TOLERANCE = 0.02
# The exporter of each format, or the module that holds it as EXPORTER and is imported when the format is asked for.
_exporters: dict[str, Exporter | str] = {
    "merged": "whinchat.export.merged",
    "classifier": "whinchat.export.sequence_classifier",
    "gguf": "whinchat.export.gguf_export",
    "onnx": "whinchat.export.onnx",
}


def export_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return tuple(_exporters)


def register_export(exporter: Exporter) -> None:
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


def find_exporter(name: str) -> Exporter:
    """Return the exporter of the format ``name``.

    Raises:
        RunError: there is no such format.
    """
    if name not in _exporters:
        choices = ", ".join(_exporters)
        raise RunError(f"export: there is no format {name!r}; choose from {choices}{nearest(name, _exporters)}")
    entry = _exporters[name]
    exporter: Exporter = import_module(entry).EXPORTER if isinstance(entry, str) else entry
    return exporter
