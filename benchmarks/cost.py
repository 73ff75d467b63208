"""Time to quality, and the cost of ten million answers: the first two tables of the page.

Speeds are those of one run of ``python -m benchmarks``; qualities those of ``benchmarks.trials``, and the answers of a
student those of ``benchmarks.answer_cost``, which take whole trainings.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table
from whinchat.report.formatting import NOT_MEASURED, format_duration, format_number

RESULTS = Path(__file__).parent / "results"
TRIALS, ANSWERS, LONE_TEXT = RESULTS / "trials.jsonl", RESULTS / "answer_cost.json", RESULTS / "lone_text.json"
# Training rows of the trials of this table.
ROWS = 10_000
TEN_MILLION = 10_000_000


@dataclass(frozen=True)
class Quality:
    """Macro-F1 of the trials of one way to train, one for each seed."""

    validation: tuple[float, ...]
    held_out: tuple[float, ...]


@dataclass(frozen=True)
class _Way:
    """A contestant of the group ``training``, and the names of its trials without the seed; None where it has none."""

    contestant: str
    trials: str | None


_WAYS = (
    _Way("whinchat-full", "full-10k"),
    _Way("whinchat-layers-16", "layers-16-10k"),
    _Way("whinchat-upper-8", "upper-8-10k"),
    _Way("trl-fp32-kv", None),
    _Way("trl-bf16-kv", None),
    _Way("trl-bf16-all", None),
    _Way("seqcls-bf16", None),
)
# Contestants of the group ``scoring`` that give one answer a text.
_ANSWERING = ("whinchat-merged", "whinchat-layers-16", "seqcls-bf16", "minilm", "llama-cpp", "generate-bf16-2")


def trial_quality(name: str, path: Path = TRIALS) -> Quality:
    """Return the macro-F1 of the trials called ``NAME-s42``, ``NAME-s43`` and so on."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        trial = json.loads(line)
        if trial["name"].rpartition("-s")[0] == name:
            found.append(trial)
    validation, held_out = (
        tuple(trial[part]["macro_f1"]["0.0"] for trial in found) for part in ("validation", "held_out")
    )
    return Quality(validation, held_out)


def time_to_quality(training: Mapping[str, Any]) -> str:
    """Return how long one epoch over ``ROWS`` tweets takes each way, and how good the classifier is then.

    Args:
        training: the contestants of the group ``training``.
    """
    full, rows = _median_rate(training.get("whinchat-full")), []
    for way in _WAYS:
        entry = training.get(way.contestant)
        if entry is None or (rate := _median_rate(entry)) is None:
            continue
        quality = trial_quality(way.trials) if way.trials else Quality((), ())
        rows.append(
            (
                entry["title"],
                format_duration(ROWS / rate),
                format_number(rate / full, 2) if full else NOT_MEASURED,
                _means(quality.validation),
                _means(quality.held_out),
            )
        )
    columns = ("", "one epoch", "times as fast", "macro-F1, validation", "macro-F1, held out")
    return (
        "## Time to quality\n\n"
        f"How long one epoch over {ROWS:,} tweets takes at the speeds measured below, and the macro-F1 of label scores "
        "after it, on 2,000 validation and 5,000 held-out tweets: mean of the seeds, and their range. TRL trains with "
        "the same loss and gives the same gradients as whinchat with all layers (`tests/training/test_trl.py`), so its "
        "quality was not measured again; that of the classification head was not measured at this size.\n\n"
        + markdown_table(columns, rows)
        + "\n`python -m benchmarks --only training`, `python -m benchmarks.trials full-10k-s42` and others of that "
        "table\n"
    )


def answers_cost(scoring: Mapping[str, Any], stored: Mapping[str, Any] | None) -> str:
    """Return how long each way of answering takes for ten million tweets.

    Args:
        scoring: the contestants of the group ``scoring``.
        stored: the result of ``benchmarks.answer_cost``; None where there is none.
    """
    rows = []
    for name in _ANSWERING:
        if (entry := scoring.get(name)) is not None and (rate := _median_rate(entry)) is not None:
            rows.append((entry["title"], f"{rate:,.0f}", f"{TEN_MILLION / rate / 3600:,.1f}"))
    text = (
        "## Cost of ten million answers\n\n"
        "Hours for ten million tweets on this machine, by the speeds measured below, without reading and tokenizing.\n"
        "\n"
        + markdown_table(("", "answers a second", "hours for ten million"), rows)
        + "\n`python -m benchmarks --only scoring`\n"
    )
    if stored is None:
        return text
    runs = " ".join(way["way"] for way in stored["ways"] if not way["by_student"])
    return (
        f"{text}\nWith tokenizing and the checks of a table, and with students that answer easy texts, on "
        f"{stored['machine']['processor']}:\n\n{answers_table(stored)}\n"
        f"`python -m benchmarks.answer_cost {runs} --texts TABLE`\n"
    )


def answers_table(results: Mapping[str, Any]) -> str:
    """Return the results of ``benchmarks.answer_cost`` as Markdown."""
    rows = [
        (
            row["way"],
            "all" if row["layers"] is None else f"the first {row['layers']}",
            f"{row['texts_per_second']:.0f} ({row['range'][0]:.0f} to {row['range'][1]:.0f})",
            f"{row['ratio']:.2f}",
            f"{100 * row['by_student']:.0f} %" if row["by_student"] else "-",
            f"{row['hours_for_ten_million']:.1f}",
        )
        for row in results["ways"]
    ]
    header = ("run folder", "layers", "texts a second", "ratio", "by the student", "hours for ten million")
    return markdown_table(header, rows)


def stored_ratios(answers: Path = ANSWERS, lone_text: Path = LONE_TEXT) -> dict[str, float | None]:
    """Return the ratios that other commands measured, by their names in ``latest.json``; None for a missing result."""
    cost, lone = read_stored(answers), read_stored(lone_text)
    cascades = [way["ratio"] for way in cost["ways"] if way["by_student"]] if cost else []
    return {
        "answers_cascade_vs_full_depth": max(cascades, default=None),
        "lone_text_vs_pipeline": lone["ratio"] if lone else None,
    }


def read_stored(path: Path) -> Any:
    """Return a stored result; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _median_rate(entry: Mapping[str, Any] | None) -> float | None:
    return entry["per_second"]["median"] if entry and entry["per_second"] else None


def _means(values: tuple[float, ...]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3f} (one seed)"
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)"
