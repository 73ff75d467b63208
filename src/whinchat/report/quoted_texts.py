"""Decide which texts of the data card, report and pushed files quote, as ``publish.samples`` of the recipe says."""

from collections.abc import Callable
from dataclasses import replace

from whinchat.data.profanity import profanity_finder
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_record import Manifest, RunRecord, TrainedRecord


def with_quotable_texts(record: RunRecord) -> RunRecord:
    """Return ``record`` without the samples, confident errors and findings whose texts must not be quoted."""
    if record.recipe.publish.samples == "all":
        return record
    may_quote = _filter(record.recipe)
    samples = tuple(
        sample for sample in record.samples if all(map(may_quote, (sample.text, sample.before, sample.after)))
    )
    manifest = quotable_manifest(record)
    reliability = record.reliability
    if reliability is not None:
        errors = tuple(error for error in reliability.errors if may_quote(error.text))
        reliability = replace(reliability, errors=errors)
    return replace(record, samples=samples, manifest=manifest, reliability=reliability)


def quotable_manifest(record: TrainedRecord) -> Manifest:
    """Return the manifest of ``record`` without the findings in the data whose texts must not be quoted."""
    manifest, report = record.manifest, record.manifest.data_report
    if record.recipe.publish.samples == "all" or not report:
        return manifest
    findings = list(filter(_filter(record.recipe), report.get("examples", ())))
    return replace(manifest, data_report={**report, "examples": findings})


def omission_sentence(recipe: Recipe) -> str | None:
    """Say which texts are left out; None if all are quoted."""
    return {
        "all": None,
        "clean": "Texts in which a word list finds profanity are left out (publish.samples: clean).",
        "none": "No text of the data is quoted (publish.samples: none).",
    }[recipe.publish.samples]


def _filter(recipe: Recipe) -> Callable[[str | None], bool]:
    """A function that says whether a text may be quoted; a missing text may."""
    if recipe.publish.samples == "none":
        return lambda text: False
    is_profane = profanity_finder(recipe.task.language)
    return lambda text: text is None or not is_profane(text)
