"""Write a first recipe for a table: YAML with a comment for each choice."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from whinchat.recipe.label_block import quote_yaml

BUNDLED_MODEL = "package:smollm2-135m-instruct"
# Labels are weighted where the most frequent has this many times the rows of the rarest, and never by more than this.
_WEIGHTED_FROM, _LARGEST_WEIGHT = 3, 10
# Texts that are trained on in all epochs together, and the most epochs.
_TRAINED_TEXTS, _MOST_EPOCHS = 6_000, 10
# Rough numbers of characters in a token, for texts and for lists of names; the prompt must hold both.
_TEXT_CHARS, _NAME_CHARS = 4, 3
_WIDTH = 110


@dataclass(frozen=True)
class DraftFacts:
    """What is known of a table when its recipe is written.

    Attributes:
        source: ``data.source``.
        text_column, label_column: the columns; None for a source without columns.
        other_texts: further columns that may hold texts.
        labels: rows of each label, in the order of ``task.labels``.
        label_map: spellings in the source of labels that the task spells in another way.
        train_rows: rows to train on, about.
        empty_rows: rows without a text or a label.
        long_text: characters that 19 of 20 texts have at most.
        own_splits: names of the evaluation splits that the source has.
        model: ``backbone.model``.
    """

    source: str
    text_column: str | None
    label_column: str | None
    other_texts: tuple[str, ...]
    labels: dict[str, int]
    label_map: dict[str, str]
    train_rows: int
    empty_rows: int
    long_text: int
    own_splits: tuple[str, ...]
    model: str


def write_draft(name: str, facts: DraftFacts) -> str:
    """Return a recipe called ``name`` as YAML with comments."""
    instruction = _instruction(facts)
    sections = (
        _head(name, facts),
        _task(name, facts, instruction),
        _data(facts),
        _backbone(facts, instruction),
        _adapter(),
        _train(facts),
        _evaluate(),
    )
    return "\n".join("\n".join(lines) + "\n" for lines in sections)


def _head(name: str, facts: DraftFacts) -> list[str]:
    return [
        "# Written by `whinchat init`. Change what you like; `whinchat recipes check` checks the recipe and its data.",
        f"name: {quote_yaml(name)}",
        f"description: {quote_yaml(f'Texts of {facts.source} with {len(facts.labels)} labels')}",
    ]


def _task(name: str, facts: DraftFacts, instruction: str) -> list[str]:
    return [
        "task:",
        f"  name: {quote_yaml(name)}",
        "  # In quotes, since YAML takes words such as no, 1.0 and 2024-01-01 for something else than text. Tables and",
        "  # figures list the labels in this order. Behind each stands the number of its rows.",
        "  labels:",
        *(f"    - {quote_yaml(label)}  # {rows:,}" for label, rows in facts.labels.items()),
        "  # What the model is told before each text. Say what a label means where its name does not.",
        *_folded("  instruction: ", instruction),
        "  # Language of the texts (ISO 639-1), for the model card: whinchat does not detect it.",
        '  language: "en"',
    ]


def _instruction(facts: DraftFacts) -> str:
    noun = " ".join((facts.label_column or "label").replace("_", " ").replace("-", " ").split())
    if not noun.replace(" ", "").isalpha() or noun.casefold() in {"y", "target", "class", "labels"}:
        noun = "label"
    labels = list(facts.labels)
    separator = next((mark for mark in (", ", "; ") if not any(mark.strip() in label for label in labels)), None)
    listed = separator.join(labels) if separator else ", ".join(f'"{label}"' for label in labels)
    return (
        f"You sort texts by their {noun}. Read the text and answer with exactly one of these {len(labels)} labels, and "
        f"with nothing else: {listed}."
    )


def _data(facts: DraftFacts) -> list[str]:
    lines = ["data:", f"  source: {quote_yaml(facts.source)}  # relative to the folder in which whinchat is started"]
    if facts.text_column is not None:
        others = f"  # could be, too: {', '.join(map(quote_yaml, facts.other_texts))}" if facts.other_texts else ""
        lines.append(f"  text_column: {quote_yaml(facts.text_column)}{others}")
        lines.append(f"  label_column: {quote_yaml(facts.label_column or '')}")
    if facts.label_map:
        lines += [
            "  # Spellings in the table -> label.",
            "  label_map:",
            *(f"    {quote_yaml(spelling)}: {quote_yaml(label)}" for spelling, label in facts.label_map.items()),
        ]
    if facts.empty_rows:
        lines.append(f"  drop_empty: true  # {facts.empty_rows:,} rows have no text or no label; they are left out")
    missing = [split for split in ("validation", "test") if split not in facts.own_splits]
    if "validation" in facts.own_splits:
        lines.append("  # The files of the folder are the splits: all of their rows are used.")
    elif "test" in missing:
        lines += [
            "  # Of ten rows, eight train the model, one calibrates its probabilities, and one measures it. Each label",
            "  # has the same share everywhere, equal texts stay together, and the rows are the same at every run.",
            "  validation_rows: 0.1",
            "  test_rows: 0.1",
        ]
    else:
        lines += ["  # A tenth of the training rows calibrates the probabilities.", "  validation_rows: 0.1"]
    return lines


def _backbone(facts: DraftFacts, instruction: str) -> list[str]:
    needed = len(instruction) // _NAME_CHARS + facts.long_text // _TEXT_CHARS + 50
    tokens = next((size for size in (512, 1024) if size >= needed), 2048)
    lines = ["backbone:", f"  model: {quote_yaml(facts.model)}"]
    if tokens > 512:
        lines += [
            "  # Instruction and text together; the default of 512 would cut more than one text in twenty. Longer",
            "  # prompts take more time and memory.",
            f"  max_prompt_tokens: {tokens}",
        ]
    return lines


def _adapter() -> list[str]:
    return ["adapter:", "  method: lora  # or dora, rslora", "  r: 16", "  lora_alpha: 32"]


def _train(facts: DraftFacts) -> list[str]:
    rows = facts.train_rows
    epochs = min(_MOST_EPOCHS, max(1, round(_TRAINED_TEXTS / max(1, rows))))
    batch = 16 if rows >= 400 else 8 if rows >= 100 else 4
    bundled = facts.model == BUNDLED_MODEL
    rate, reason = ("1e-3", "good for SmolLM2-135M") if bundled else ("2e-4", "usual for models above 1 B parameters")
    return [
        "train:",
        "  # Trains the choice between the labels alone; completion also trains the model to write its answer.",
        "  loss: choice",
        f"  learning_rate: {rate}  # {reason}",
        f"  num_train_epochs: {epochs}  # about {_TRAINED_TEXTS:,} texts in all, in at most {_MOST_EPOCHS} passes",
        "  # max_steps: 50  # instead of all epochs, for a first, quick run",
        f"  per_device_train_batch_size: {batch}",
        *_class_weights(facts.labels),
        "  # Score up to 200 validation rows four times during training.",
        "  eval_steps: 0.25",
        "  eval_rows: 200",
    ]


def choose_class_weights(labels: Mapping[str, int]) -> dict[str, float] | str:
    """Return ``train.class_weights`` for labels with these numbers of rows.

    "none" where the most frequent label has fewer than 3 times the rows of the rarest; "balanced" where no weight is
    above 10; else the balanced weights, none of them above 10.
    """
    rows = sum(labels.values())
    weights = {label: rows / (len(labels) * max(1, count)) for label, count in labels.items()}
    if max(labels.values()) < _WEIGHTED_FROM * min(labels.values()):
        return "none"
    if max(weights.values()) <= _LARGEST_WEIGHT:
        return "balanced"
    return {label: round(min(weight, _LARGEST_WEIGHT), 3) for label, weight in weights.items()}


def _class_weights(labels: Mapping[str, int]) -> list[str]:
    weights = choose_class_weights(labels)
    if weights == "none":
        return [f"  # The rarest label has over 1/{_WEIGHTED_FROM} of the rows of the most frequent: no weights.",
                "  class_weights: none"]  # fmt: skip
    reason = f"  # A label has over {_WEIGHTED_FROM} times the rows of another, so rows of rare labels weigh more:"
    if isinstance(weights, str):
        return [reason, "  # all rows / (labels x rows of the label).", "  class_weights: balanced"]
    return [
        reason,
        f"  # all rows / (labels x rows of the label), at most {_LARGEST_WEIGHT}, lest single rows decide a batch.",
        "  class_weights:",
        *(f"    {quote_yaml(label)}: {weight:g}" for label, weight in weights.items()),
    ]


def _evaluate() -> list[str]:
    return [
        "evaluate:",
        "  # With loss: choice, freely written answers stay those of the untrained model, so they are not measured.",
        "  generate: false",
    ]


def _folded(key: str, text: str) -> list[str]:
    """Return a key with a long text on several lines, or in quotes where YAML needs escapes."""
    if not text.isprintable():
        return [f"{key}{quote_yaml(text)}"]
    indent = " " * (len(key) - len(key.lstrip()) + 2)
    lines = textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"{key}>-", *(f"{indent}{line}" for line in lines)]
