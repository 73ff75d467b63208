"""The page that shows which architectures work."""

from collections.abc import Mapping
from typing import Any

from benchmarks.zoo.examine import TRACEBACK, WRONG

Result = Mapping[str, Any]
COLUMNS = {
    "scores": "scores", "gradients": "loss, gradients", "generation": "generation", "run": "run",
    "merged": "merged", "classifier": "classifier", "gguf": "GGUF", "onnx": "ONNX",
}  # fmt: skip


def faults(result: Result) -> list[str]:
    """Return a line for each cell that is wrong or a traceback."""
    return [
        f"{row['name']}: {key}: {cell['verdict']}: {cell['reason']}"
        for row in result["rows"]
        for key, cell in row.items()
        if isinstance(cell, dict) and cell.get("verdict") in (WRONG, TRACEBACK)
    ]


def page(result: Result) -> str:
    """Return the whole page."""
    return repr(result)
