"""The facts of the model card that are not measurements: uses, licenses, data, citation, and the project's address."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import metadata

from whinchat.data.packages import license_of_source
from whinchat.report.formatting import format_count
from whinchat.report.markdown import Markdown, markdown_link
from whinchat.report.tables import label_list
from whinchat.report.visible_text import one_line
from whinchat.storage.run_record import RunRecord, TrainedRecord
from whinchat.wording import counted

# What a card shows before it is pushed: the reader puts the name of the repository in its place.
REPOSITORY_PLACEHOLDER = "OWNER/NAME"
BASE_PLACEHOLDER = "OWNER/BASE-MODEL"


@dataclass(frozen=True)
class CardFacts:
    """Sentences and lines of the card; what is not known is left out.

    Attributes:
        intended_use, out_of_scope_use: sentences on what the classifier is for, and what it is not for.
        details: who made the adapter, and its license.
        data: source and license of the training data.
    """

    intended_use: str
    out_of_scope_use: str
    details: tuple[str, ...]
    data: tuple[str, ...]


def card_facts(record: RunRecord, license_name: str | None) -> CardFacts:
    """Return the facts of a run's card; ``license_name`` is the license of the adapter, if it is known."""
    return facts_of(record, license_name, _intended_use(record), _out_of_scope_use(record))


def facts_of(
    record: TrainedRecord, license_name: str | None, intended_use: Iterable[str], out_of_scope_use: Iterable[str]
) -> CardFacts:
    """Return the facts of a card; the sentences about its uses stand behind those of the recipe."""
    publish = record.recipe.publish
    own = publish.license is not None
    details = (
        f"Developed by: {publish.developers}" if publish.developers else None,
        f"License: {license_name}{'' if own else ', that of the base model'}" if license_name else None,
    )
    return CardFacts(
        intended_use=_sentences(publish.intended_use, *intended_use),
        out_of_scope_use=_sentences(publish.out_of_scope_use, *out_of_scope_use),
        details=tuple(filter(None, details)),
        data=tuple(_data(record)),
    )


def _sentences(own: str | None, *generated: str) -> str:
    return " ".join(filter(None, (own, *generated)))


def _intended_use(record: RunRecord) -> Iterator[str]:
    task, after = record.recipe.task, record.after
    yield (
        f"The classifier gives a text (language: {task.language}) one of the labels {label_list(record.recipe)}, with "
        f"a probability for each label. Its metrics hold for texts like the {counted(after.score.n, 'text')} of the "
        f"{after.split} split that it was measured on."
    )


def _out_of_scope_use(record: RunRecord) -> Iterator[str]:
    yield (
        "Other kinds of text and other languages were not measured. A text that fits none of the labels still gets one "
        "of them."
    )
    yield from general_limits(record)


def general_limits(record: TrainedRecord) -> Iterator[str]:
    """Yield sentences about the uses for which no classifier of whinchat is meant."""
    yield (
        f"A prompt is cut after {format_count(record.recipe.backbone.max_prompt_tokens)} tokens, so the end of a long "
        "text is not read."
    )
    yield "Decisions about people should not rest on its answers alone."


def _data(record: TrainedRecord) -> Iterator[str]:
    manifest, publish = record.manifest, record.recipe.publish
    yield f"Source: {manifest.data_source}"
    if license_name := publish.data_license or license_of_source(manifest.data_source):
        yield f"License of the data: {license_name}"
    soft = record.recipe.data.soft_labels
    if soft is not None and (license_name := license_of_source(soft)):
        yield f"License of the soft labels, {soft}: {license_name}"
    if publish.datasets:
        yield f"Data sets on the hub: {', '.join(publish.datasets)}"


def citation(record: TrainedRecord, title: str, repository: str) -> str:
    """Return a BibTeX entry for the model; the author is left out where the recipe names none.

    Args:
        record: the run.
        title: title of the card.
        repository: hub id of the model.
    """
    key = re.sub(r"[^a-z0-9]+", "-", record.recipe.name.lower()).strip("-") or "model"
    author = record.recipe.publish.developers
    fields = {
        "title": title,
        **({"author": author} if author else {}),
        "year": record.manifest.created[:4],
        "howpublished": f"https://huggingface.co/{repository}",
        "note": f"Trained and evaluated with whinchat {record.manifest.whinchat_version}",
    }
    lines = [f"  {name} = {{{_bibtex(value)}}}," for name, value in fields.items()]
    return "\n".join((f"@misc{{{key},", *lines, "}"))


def _bibtex(value: str) -> str:
    """The value on one line, without the characters that would end its field."""
    return re.sub(r"[{}\\]", "", one_line(value))


def project_link() -> Markdown:
    """Return "whinchat", linked to the first address in the package's metadata if it has one."""
    urls = metadata("whinchat").get_all("Project-URL") or ()
    address = next((url.partition(",")[2].strip() for url in urls), None)
    return markdown_link("whinchat", address)
