"""The export formats by name. Importing this module loads no torch, so the command line can list the formats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from whinchat.errors import RunError, nearest

if TYPE_CHECKING:  # the exporters load torch and transformers
    from whinchat.export.exporter import Exporter

# Share of labels that may differ: in bfloat16, sums in another order round to other values.
DEFAULT_TOLERANCE = 0.02
# The exporters of whinchat: each module holds one, named EXPORTER, and is imported when the format is asked for.
_MODULES = {
    "merged": "whinchat.export.merged",
    "classifier": "whinchat.export.sequence_classifier",
    "gguf": "whinchat.export.gguf_export",
    "onnx": "whinchat.export.onnx",
}
_registered: dict[str, Exporter] = {}


def export_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return (*_MODULES, *_registered)


def register_export(exporter: Exporter) -> None:
    """Add a format, so that ``export_run`` knows it by ``exporter.name``.

    Raises:
        ValueError: the name is taken.
    """
    if exporter.name in export_names():
        raise ValueError(f"export format {exporter.name!r} exists already; choose another name")
    _registered[exporter.name] = exporter


def unregister_export(name: str) -> None:
    """Remove a format that ``register_export`` added.

    Raises:
        KeyError: no such format was added.
    """
    del _registered[name]


def find_exporter(name: str) -> Exporter:
    """Return the exporter of the format ``name``.

    Raises:
        RunError: there is no such format.
    """
    if name in _registered:
        return _registered[name]
    if name not in _MODULES:
        choices = ", ".join(export_names())
        raise RunError(f"export: there is no format {name!r}; choose from {choices}{nearest(name, export_names())}")
    exporter: Exporter = import_module(_MODULES[name]).EXPORTER
    return exporter
