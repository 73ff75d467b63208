"""The page that shows which architectures work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.zoo.examine import REFUSED, RIGHT, TRACEBACK, WRONG
from whinchat.report.formatting import NOT_MEASURED, format_duration

Result = Mapping[str, Any]
COMPUTED = ("scores", "gradients", "generation")
COLUMNS = {
    "scores": "scores", "gradients": "loss, gradients", "generation": "generation", "run": "run", "merged": "merged",
    "classifier": "classifier", "gguf": "GGUF", "onnx": "ONNX",
}  # fmt: skip
_HEAD = Path(__file__).with_name("head.md")


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
    reasons: dict[str, int] = {}
    titles = ("architecture", "model type", "way", *COLUMNS.values(), "training", "scoring")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in result["rows"]:
        speed = row.get("speed", {})
        speeds = [f"{speed[work]:.2f}" if work in speed else "" for work in ("train", "score")]
        cells = [row["name"], f"`{row['model_type']}`", row.get("way", "-"), *_cells(row, reasons), *speeds]
        lines.append(f"| {' | '.join(cells)} |")
    run = result["provenance"]
    head = _HEAD.read_text(encoding="utf-8").format(
        versions=", ".join(f"{name} {result['versions'][name]}" for name in ("torch", "transformers", "peft")),
        command=run["command"],
        date=run["date"],
        commit=(run["commit"] or "unknown")[:12],
        changes=" with uncommitted changes" if run["uncommitted_changes"] else "",
        seconds=format_duration(result["seconds"]),
        joined=f". Joined with --add from: {run['joined_from']}" if "joined_from" in run else "",
    )
    why = [f"{number}. {reason}" for reason, number in reasons.items()] or ["Nothing is refused."]
    return "\n".join([head, *lines, "", "## Why refused", "", *why]) + "\n"


def _cells(row: Mapping[str, Any], reasons: dict[str, int]) -> list[str]:
    """Return the text of each column of ``COLUMNS``; ``reasons`` numbers the reasons of refusals."""
    cells = []
    for column in COLUMNS:
        # What is refused while it is loaded reaches no column.
        refused_at_load = row["load"]["verdict"] != RIGHT
        cell = row["load"] if column == "scores" and refused_at_load else row.get(column)
        if cell is None:
            reached = not refused_at_load and (
                column in (*COMPUTED, "run") or row.get("run", {}).get("verdict") == RIGHT
            )
            cells.append(NOT_MEASURED if reached else "-")
        elif cell["verdict"] == RIGHT:
            cells.append("fast" if row["way"] == "packed" and column in COMPUTED else RIGHT)
        else:
            reason = cell["reason"].replace(f"not {row['model_type']};", "not this model type;").replace("|", "\\|")
            number = reasons.setdefault(reason, len(reasons) + 1)
            cells.append(
                f"{cell['verdict']} ({number})" if cell["verdict"] == REFUSED else f"**{cell['verdict']}** ({number})"
            )
    return cells
