"""Check the corpus for repeated texts, leaks from train into evaluation, and spaces that give labels away."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from whinchat.data.cleaning import clean
from whinchat.data.dataset import DataReport, Split, certain_answer
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.label_block import label_block
from whinchat.recipe.task import Cleaning, Task

# Smallest difference between two labels' shares of texts with doubled spaces that is worth a warning.
WHITESPACE_LEAK_DIFFERENCE = 0.2
# Training rows below which an answer to a question is worth a warning.
FEW_TRAINING_ROWS = 10
# What stands for rows without an answer among the counts of answers.
MISSING = "(missing)"
_DOUBLED_SPACE = re.compile(r"\s\s")
_EXAMPLES_PER_KIND = 2
_EXAMPLE_CHARS = 60


def normalize_text(text: str) -> str:
    """Return ``text`` without differences in case, white space and Unicode composition."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def text_key(text: str, steps: Sequence[Cleaning]) -> str:
    """Return what two texts have in common that count as equal: the text cleaned by ``steps``, then normalized."""
    return normalize_text(clean(text, steps))


def check_corpus(
    train: Split, held_out: Mapping[str, Split], data: DataConfig, source: str, steps: Sequence[Cleaning] = ()
) -> tuple[Split, DataReport]:
    """Apply ``data.drop_leaked`` and ``data.drop_duplicates`` to train, and report what was found.

    A duplicate is a row whose text occurs earlier in train; the duplicate is in conflict if the first row with the text
    has another label or, with questions, another answer to a decision. A leak is a text of an evaluation split that
    also occurs in train. Texts are compared as the model reads them, cleaned. All rows of an evaluation split are
    searched, even those that ``data.*_rows`` will cut off, so that train does not depend on the limit.

    Args:
        train: the training rows.
        held_out: the evaluation splits by name.
        data: section of the recipe.
        source: name of the source, for messages.
        steps: ``task.clean`` of the recipe.

    Returns:
        The training rows that are left, and the report.

    Raises:
        DataError: no training rows are left.
    """
    keys = [text_key(text, steps) for text in train.texts]
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    repeats = [index for index, key in enumerate(keys) if first[key] != index]
    conflicts = [index for index in repeats if _in_conflict(train, index, first[keys[index]])]
    leaks: dict[str, list[str]] = {name: [] for name in held_out}
    leaked_keys = set()
    for name, split in held_out.items():
        for text in split.texts:
            if (key := text_key(text, steps)) in first:
                leaks[name].append(text)
                leaked_keys.add(key)

    dropped = set(repeats) if data.drop_duplicates else set()
    if data.drop_leaked:
        dropped |= {index for index, key in enumerate(keys) if key in leaked_keys}
    kept = train.take([index for index in range(len(train)) if index not in dropped]) if dropped else train
    if not len(kept):
        raise DataError(
            f"{source}: every training text also occurs in {' and '.join(name for name in leaks if leaks[name])}, so "
            "nothing is left to train on; give train texts of its own"
        )
    report = DataReport(
        duplicates_in_train=len(repeats),
        conflicting_duplicates=len(conflicts),
        leaked={name: len(texts) for name, texts in leaks.items()},
        dropped_from_train=len(dropped),
        examples=_examples(train, repeats, conflicts, leaks),
    )
    return kept, report


def _in_conflict(train: Split, row: int, other: int) -> bool:
    """Return whether two rows have different labels or, with questions, answer a decision differently."""
    if not train.answers:
        return train.labels[row] != train.labels[other]
    pairs = zip(map(certain_answer, train.answers[row]), map(certain_answer, train.answers[other]), strict=True)
    return any(one is not None and another is not None and one != another for one, another in pairs)


def doubled_space_shares(train: Split, labels: Sequence[str]) -> dict[str, float]:
    """Return the share of each label's texts with two or more spaces in a row, as a removed hashtag leaves them."""
    rows, doubled = Counter(train.labels), Counter[int]()
    for text, label in zip(train.texts, train.labels, strict=True):
        doubled[label] += _DOUBLED_SPACE.search(text) is not None
    return {name: doubled[label] / max(1, rows[label]) for label, name in enumerate(labels)}


def doubled_space_answers(train: Split, task: Task) -> dict[str, float]:
    """Return ``doubled_space_shares`` of the decision whose answers differ most in them, by title and label.

    Answers that few training rows have are left out: their shares are chance.
    """
    widest: dict[str, float] = {}
    for index, decision in enumerate(task.decisions):
        answered = train.of_decision(index)
        rows = answered.counts(decision.labels)
        shares = {
            f"{decision.title}: {label}": share
            for label, share in doubled_space_shares(answered, decision.labels).items()
            if rows[label] >= FEW_TRAINING_ROWS
        }
        widest = max(widest, shares, key=lambda found: max(found.values(), default=0) - min(found.values(), default=0))
    return widest


def whitespace_leak_warning(shares: Mapping[str, float], clean: Sequence[str]) -> str | None:
    """Return a warning where doubled spaces reveal labels and ``task.clean`` leaves them in the texts, else None.

    Args:
        shares: from ``doubled_space_shares`` or ``doubled_space_answers``.
        clean: ``task.clean`` of the recipe.
    """
    if "spaces" in clean or not shares:
        return None
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    if shares[most] - shares[least] < WHITESPACE_LEAK_DIFFERENCE:
        return None
    return (
        f"Doubled spaces occur in {shares[most]:.0%} of the training texts of {most} and in {shares[least]:.0%} of the "
        f"training texts of {least}: a model learns to tell the labels apart by them, and other texts have none. "
        f"Set task.clean to [{', '.join((*clean, 'spaces'))}]."
    )


def _examples(
    train: Split, repeats: list[int], conflicts: list[int], leaks: Mapping[str, list[str]]
) -> tuple[str, ...]:
    """Return a few examples of each kind of finding, as lines for the report."""
    in_conflict = set(conflicts)
    kinds = {f"also in {name}": texts for name, texts in leaks.items()}
    kinds["repeated with another label"] = [train.texts[index] for index in conflicts]
    kinds["repeated"] = [train.texts[index] for index in repeats if index not in in_conflict]
    lines: list[str] = []
    for kind, texts in kinds.items():
        distinct = dict.fromkeys(f"{kind}: {_shorten(text)}" for text in texts)
        lines += list(distinct)[:_EXAMPLES_PER_KIND]
    return tuple(lines)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXAMPLE_CHARS else line[: _EXAMPLE_CHARS - 1] + "…"


def require_every_label(train: Split, labels: tuple[str, ...], source: str) -> None:
    """Check that each label has a training row.

    Raises:
        DataError: a label has no row; the message gives the number of rows of every label.
    """
    counts = train.counts(labels)
    missing = [label for label, rows in counts.items() if not rows]
    if missing:
        counted = ", ".join(f"{label} {rows}" for label, rows in counts.items())
        raise DataError(
            f"{source}: no training row is labelled {' or '.join(missing)} (rows used: {counted}); "
            "add some, take more rows (data.train_rows), or take the label out of task.labels, which leaves:\n"
            + label_block(label for label, rows in counts.items() if rows)
        )


def answer_counts(split: Split, task: Task) -> dict[str, dict[str, int]]:
    """Return for each decision of ``task``, by its title, the rows of each label and, under "(missing)", of none."""
    counts = {}
    for index, decision in enumerate(task.decisions):
        answered = split.of_decision(index)
        counts[decision.title] = answered.counts(decision.labels) | {MISSING: len(split) - len(answered)}
    return counts


def require_every_answer(train: Split, task: Task, source: str) -> None:
    """Check that each option of each question has a training row, or a share of one.

    Raises:
        DataError: an option has no row; the message names the question and gives the rows of each of its options.
    """
    faults = []
    for index, decision in enumerate(task.decisions):
        counts = train.of_decision(index).label_rows(decision.labels)
        if missing := [label for label, rows in counts.items() if not rows]:
            counted = ", ".join(f"{label} {rows:.3g}" for label, rows in counts.items())
            remedy = "take the option out of the question"
            if decision.option is not None:
                remedy = f"take the option {decision.option} out of the question"
            elif len(counts) - len(missing) < 2:
                remedy = "take the question out of the recipe"
            faults.append(
                f"{source}: {decision.title}: no training row is answered {' or '.join(missing)} (rows used: "
                f"{counted}); add some, take more rows (data.train_rows), or {remedy}"
            )
    if faults:
        raise DataError(*faults)


def rare_answer_warnings(train: Split, task: Task) -> list[str]:
    """Return warnings about rare answers, and about answers that never have the largest share, for each question."""
    rare: dict[str, list[str]] = {}
    minor: dict[str, list[str]] = {}
    for index, decision in enumerate(task.decisions):
        answered = train.of_decision(index)
        largest = answered.counts(decision.labels)
        for label, rows in answered.label_rows(decision.labels).items():
            name = label if decision.option is None else f"{decision.option} ({label})"
            if rows < FEW_TRAINING_ROWS:
                rare.setdefault(decision.question, []).append(f"{name} {rows:.3g}")
            if rows and not largest[label]:
                minor.setdefault(decision.question, []).append(name)
    return [
        *(
            f"Question {question}: fewer than {FEW_TRAINING_ROWS} training rows have the answer {', '.join(answers)}, "
            "from which a model learns little. Add such rows, or join or remove these options."
            for question, answers in rare.items()
        ),
        *(
            f"Question {question}: no training row gives its largest share to {', '.join(answers)}. The model learns "
            "the shares, but F1, accuracy and thresholds take the largest share for the truth, so only cross entropy "
            "judges these answers."
            for question, answers in minor.items()
        ),
    ]
