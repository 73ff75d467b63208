"""Set published figures beside the measured ones, and say where a run departs from the publication."""

import re
from dataclasses import dataclass, replace
from typing import Any

from whinchat.evaluation.results import Mode
from whinchat.recipe.published import Departure, departures, name_without_claim, without_claim
from whinchat.recipe.schema import Reference
from whinchat.report.answer_modes import comparable_mode, mode_title
from whinchat.report.formatting import MODE_NAMES, NOT_MEASURED, format_metric
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.run_record import RunRecord
from whinchat.wording import counted

_LINKABLE = re.compile(r"https?://[^\s()<>\"]+")


@dataclass(frozen=True)
class PublishedFigures:
    """What card and report say about the published figures.

    Attributes:
        title: name of the publication.
        url: its address; None without a usable one.
        figures: predicate of a sentence that begins with the title, and the figures of this run that compare with it.
        caveats: sentences about what keeps both apart.
        departures: published settings that the run does not have; None if there are none.
    """

    title: str
    url: str | None
    figures: str
    caveats: str
    departures: TextTable | None


def published_figures(record: RunRecord) -> PublishedFigures | None:
    """Return what to say about the recipe's ``reference``; None without one."""
    reference = record.recipe.reference
    if reference is None:
        return None
    mode = comparable_mode(reference)
    before, after = map(format_published, (reference.before_macro_f1, reference.after_macro_f1))
    figures = f"reports a macro-F1 of {before} before and {after} after training"
    if mode is None:
        figures += ". It is not known which of the measured figures compares with this."
    else:
        figures += f", with {MODE_NAMES[mode]}. {_measured_sentence(record, mode)}"
    caveats = "This run did not measure the published figures, and they may refer to other texts."
    if found := run_departures(record):
        caveats += f" The run differs from the publication in {counted(len(found), 'setting')}."
    elif settings := len(reference.settings):
        caveats += f" The run is as published in {counted(settings, 'setting')}, all that the recipe lists."
    return PublishedFigures(
        title=reference.title,
        url=reference.url if _LINKABLE.fullmatch(reference.url or "") else None,
        figures=figures,
        caveats=caveats,
        departures=_departures_table(found) if found else None,
    )


def _measured_sentence(record: RunRecord, mode: Mode) -> str:
    """Macro-F1 of this run with the way of answering that the published figures have."""
    sides = (record.before.of_mode(mode), record.after.of_mode(mode))
    if not any(sides):
        return f"In this run, this was {NOT_MEASURED}."
    before, after = (format_metric(metrics, "macro_f1") for metrics in sides)
    sample = "" if (title := mode_title(record.after, mode)) == MODE_NAMES[mode] else f" ({title})"
    return f"With the same way of answering{sample}, this run has {before} before and {after} after training."


def published_row(reference: Reference) -> tuple[str, ...]:
    """Return the row of the published macro-F1, for the table of metrics before and after training."""
    values = (reference.before_macro_f1, reference.after_macro_f1)
    return (f"published: {reference.title}", "macro-F1", *map(format_published, values))


def format_published(value: float | None) -> str:
    """Return a published figure with the digits that were published."""
    return NOT_MEASURED if value is None else f"{value:g}"


def run_departures(record: RunRecord) -> tuple[Departure, ...]:
    """Return the published settings that the run does not have, by its recipe or by the data types of its machine."""
    found = {departure.key: departure for departure in departures(record.recipe)}
    settings = {} if record.recipe.reference is None else record.recipe.reference.settings
    used = {"backbone.load_in": record.manifest.load_in, "backbone.compute_dtype": record.manifest.compute_dtype}
    for key, value in used.items():
        if settings.get(key, "auto") not in {"auto", value}:
            found[key] = Departure(key, settings[key], value)
    return tuple(found.values())


def presented(record: RunRecord) -> RunRecord:
    """Return ``record`` as card and report show it: a run that departs from the publication does not say otherwise."""
    return replace(record, recipe=without_claim(record.recipe)) if run_departures(record) else record


def public_name(record: RunRecord, name: str) -> str:
    """Return the ``name`` of a run, without "as published" if the run departs from the publication."""
    return name_without_claim(name) if run_departures(record) else name


def _departures_table(found: tuple[Departure, ...]) -> TextTable:
    columns: Columns[Departure] = {
        "setting": lambda departure: departure.key,
        "published": lambda departure: shown_value(departure.key, departure.published),
        "this run": lambda departure: shown_value(departure.key, departure.value),
    }
    return TextTable.of("Settings that differ from the publication", found, columns, numeric=False)


def shown_value(key: str, value: Any) -> str:
    """Return the value of a recipe's key as tables show it."""
    if value is None:
        return "all" if key.endswith("rows") else "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
