"""Write a first recipe for a table or a folder of split files, and check the recipe before it is written."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whinchat.data.column_guess import (
    MOST_LABELS,
    ColumnProfile,
    has_label_name,
    label_columns,
    profile_columns,
    text_columns,
)
from whinchat.data.labels import complete_rows
from whinchat.data.packages import PACKAGE_PREFIX
from whinchat.data.rows import HUB_PREFIX, require_column
from whinchat.data.sources import read_source
from whinchat.data.split_files import find_split_tables, is_tweeteval
from whinchat.errors import DataError, OutputError
from whinchat.output_files import temporary_folder
from whinchat.pipelines.check_recipe import RecipeCheck, check_recipe
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.field_types import LONGEST_NAME, character_fault, name_fault
from whinchat.recipe.recipe_draft import BUNDLED_MODEL, DraftFacts, write_draft
from whinchat.storage.atomic import write_text
from whinchat.wording import counted

# Asks for one of several columns: what the column holds, the candidates, the likeliest first. Returns its name.
AskColumn = Callable[[str, Sequence[ColumnProfile]], str]
# Rows of a label below which the label is named in a note.
_FEW_ROWS = 10


@dataclass(frozen=True)
class InitResult:
    """A recipe that was written.

    Attributes:
        path: the file.
        text_column, label_column: the chosen columns; None for a source without columns.
        labels: rows of each label.
        notes: choices that the user should know of, one sentence or two each.
        check: what the check of the recipe found.
    """

    path: Path
    text_column: str | None
    label_column: str | None
    labels: dict[str, int]
    notes: tuple[str, ...]
    check: RecipeCheck


def init_recipe(
    source: str,
    out: Path | None = None,
    *,
    text: str | None = None,
    label: str | None = None,
    model: str = BUNDLED_MODEL,
    overwrite: bool = False,
    ask: AskColumn | None = None,
) -> InitResult:
    """Write a recipe for labelled texts, with a comment for each choice.

    Args:
        source: a table, or a folder with a table for each split.
        out: file to write; ``NAME.yaml`` in the current folder by default, after the name of the source.
        text: column with the texts; None to find it.
        label: column with the labels; None to find it.
        model: ``backbone.model`` of the recipe.
        overwrite: replace the file if there is one.
        ask: asks the user for a column; None takes the likeliest, and refuses to guess among several.

    Returns:
        The file and what was found in the table.

    Raises:
        DataError: the source cannot be read, no column or several may hold the texts or the labels, or the labels
            cannot be learned.
        OutputError: there is a file, and ``overwrite`` is false, or the file cannot be written.
    """
    if source.startswith((HUB_PREFIX, PACKAGE_PREFIX)):
        raise DataError(f"{source}: init looks at tables and folders on this machine; start from a shipped recipe")
    path = Path(source).expanduser()
    name = _recipe_name(path)
    out = out or Path(f"{name}.yaml")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: already exists; replace it with --overwrite, or choose another file with --out")
    notes: list[str] = []
    columns, own_splits = _columns(path, source)
    if columns is not None:
        text, others = _choose_text(columns, source, text, label, ask)
        if others and not ask:
            notes.append(f"Texts are in {text!r}, the longest; {_quoted(others)} may hold texts, too (--text).")
        label = _choose_label(columns, source, text, label, ask, notes)
        notes += _split_column_notes(columns)
    else:
        text, label, others = None, None, ()
    data = DataConfig(source=source, **_named(text, label))
    facts = _look(data, text, label, others, own_splits, model, notes)
    recipe_text = write_draft(name, facts)
    with temporary_folder() as folder:
        draft = folder / "recipe.yaml"
        write_text(draft, recipe_text)
        check = check_recipe(str(draft))
    if check.errors:
        raise DataError(*(error.replace(str(draft), str(out)) for error in check.errors))
    write_text(out, recipe_text)
    return InitResult(out, text, label, facts.labels, tuple(notes), check)


def _recipe_name(path: Path) -> str:
    """Return a name for recipe, task and run folder after the name of a file or folder."""
    bare = path.resolve().name.partition(".")[0]
    return re.sub(r"[^\w-]+", "-", bare).strip("-")[:LONGEST_NAME] or "mine"


def _columns(path: Path, source: str) -> tuple[tuple[ColumnProfile, ...] | None, tuple[str, ...]]:
    """Return the columns of the (training) table, None where there are none, and the evaluation splits of a folder."""
    if not path.is_dir():
        if not path.exists():
            read_source(DataConfig(source=source))  # says what a source may be
        return profile_columns(path), ()
    if is_tweeteval(path):
        names = {"validation": "val_text.txt", "test": "test_text.txt"}
        return None, tuple(split for split, file in names.items() if (path / file).is_file())
    tables = find_split_tables(path, DataConfig(source=source))
    return profile_columns(tables["train"][0][0]), tuple(split for split in tables if split != "train")


def _choose_text(
    columns: Sequence[ColumnProfile], source: str, text: str | None, label: str | None, ask: AskColumn | None
) -> tuple[str, tuple[str, ...]]:
    """Return the column with the texts, and further columns that may hold texts."""
    if text is not None:
        require_column(text, [column.name for column in columns], "--text", source)
        return text, ()
    found = text_columns([column for column in columns if column.name != label])
    if not found:
        raise DataError(
            f"{source}: no column looks like texts; name it with --text. Columns: {_named_columns(columns)}"
        )
    chosen = ask("texts", found) if ask else found[0].name
    return chosen, tuple(column.name for column in found if column.name != chosen)


def _choose_label(
    columns: Sequence[ColumnProfile],
    source: str,
    text: str,
    label: str | None,
    ask: AskColumn | None,
    notes: list[str],
) -> str:
    if label is not None:
        require_column(label, [column.name for column in columns], "--label", source)
        if label == text:
            raise DataError(f"{source}: {label!r} cannot hold both texts and labels; name two columns")
        return label
    found = label_columns(columns, text)
    if not found:
        raise DataError(
            f"{source}: no column looks like labels, which repeat themselves and are at most {MOST_LABELS}; name it "
            f"with --label. Columns: {_named_columns(columns)}"
        )
    if ask:
        return ask("labels", found)
    named = [column for column in found if has_label_name(column)]
    if len(found) > 1 and len(named) != 1:
        raise DataError(f"{source}: several columns may hold the labels; name it with --label: {_named_columns(found)}")
    if others := [column.name for column in found[1:]]:
        notes.append(f"Labels are in {found[0].name!r}; {_quoted(others)} may hold labels, too (--label).")
    return found[0].name


def _split_column_notes(columns: Sequence[ColumnProfile]) -> list[str]:
    return [
        f"The column {column.name!r} names splits, which whinchat reads from files: to keep them, write train.csv, "
        "validation.csv and test.csv into a folder, and run `whinchat init` on the folder. This recipe splits anew."
        for column in columns
        if column.names_splits
    ]


def _named(text: str | None, label: str | None) -> dict[str, str]:
    return {} if text is None or label is None else {"text_column": text, "label_column": label}


def _look(
    data: DataConfig,
    text: str | None,
    label: str | None,
    others: tuple[str, ...],
    own_splits: tuple[str, ...],
    model: str,
    notes: list[str],
) -> DraftFacts:
    """Read all rows, and return what the recipe depends on; findings are added to ``notes``.

    Raises:
        DataError: the rows cannot be read, or there are too few or too many labels.
    """
    splits = read_source(data).splits
    kept = {name: [rows[index] for index in complete_rows(rows, {})] for name, rows in splits.items()}
    rows = [row for part in kept.values() for row in part]
    where = data.source if label is None else f"{data.source}: {label!r}"
    labels, label_map = _labels(Counter(row.label.strip() for row in rows), where)
    empty = sum(map(len, splits.values())) - len(rows)
    if empty:
        notes.append(f"{counted(empty, 'row')} without a text or a label will be left out (data.drop_empty).")
    notes += _label_notes(labels, label_map)
    lengths = sorted(len(row.text) for row in rows)
    share = 1.0 if "validation" in own_splits else 0.9 if "test" in own_splits else 0.8
    return DraftFacts(
        source=data.source,
        text_column=text,
        label_column=label,
        other_texts=others,
        labels=labels,
        label_map=label_map,
        train_rows=round(share * len(kept["train"])),
        empty_rows=empty,
        long_text=lengths[len(lengths) * 19 // 20],
        own_splits=own_splits,
        model=model,
    )


def _labels(spellings: Mapping[str, int], where: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the rows of each label in the order for the recipe, and the label of each spelling that is not found so.

    Spellings that differ only in case or in forms of Unicode are one label, in the spelling with the most rows.

    Raises:
        DataError: there are fewer than two labels or too many, or a label cannot be written into a recipe.
    """
    groups: dict[str, dict[str, int]] = {}
    for spelling, rows in spellings.items():
        groups.setdefault(unicodedata.normalize("NFKC", _seen(spelling).casefold()), {})[spelling] = rows
    if len(groups) > MOST_LABELS:
        raise DataError(
            f"{where} holds {len(groups)} different labels; whinchat init takes up to {MOST_LABELS}, since an "
            "instruction names them all. Name another column with --label, or join rare labels first"
        )
    if len(groups) < 2:
        found = ", ".join(map(repr, spellings)) or "none"
        raise DataError(f"{where} holds fewer than two labels ({found}); a classifier needs two or more")
    labels: dict[str, int] = {}
    label_map: dict[str, str] = {}
    for group in groups.values():
        label = _seen(max(group, key=lambda spelling: (group[spelling], spelling)))
        if not label:
            raise DataError(
                f"{where}: {counted(sum(group.values()), 'label')} cannot be seen; repair or remove such rows"
            )
        if fault := name_fault(label) or next(filter(None, map(character_fault, group)), None):
            raise DataError(f"{where}: the label {label[:60]!r} {fault}")
        labels[label] = sum(group.values())
        label_map |= {other: label for other in group if other != label and other.casefold() != label.casefold()}
    return {label: labels[label] for label in sorted(labels, key=_label_order)}, label_map


def _seen(spelling: str) -> str:
    """Return a label on one line, without characters that cannot be seen."""
    line = " ".join(spelling.split())
    return "".join(letter for letter in line if not name_fault(letter) or character_fault(letter))


def _label_order(label: str) -> tuple[float, str]:
    """Order labels that are numbers by their value, and others by the alphabet."""
    return (
        (float(label), label) if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", label) else (float("inf"), label.casefold())
    )


def _label_notes(labels: Mapping[str, int], label_map: Mapping[str, str]) -> list[str]:
    notes = []
    if label_map:
        joined = ", ".join(f"{spelling!r} as {label!r}" for spelling, label in list(label_map.items())[:5])
        notes.append(f"Labels that look alike are joined (data.label_map): {joined}.")
    if all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in labels):
        notes.append(
            "The labels are numbers. Models understand words better: give each a name with data.label_map, or an "
            "answer with task.answers."
        )
    if rare := [label for label, rows in labels.items() if rows < _FEW_ROWS]:
        notes.append(
            f"Fewer than {_FEW_ROWS} rows: {_quoted(rare)}. They are trained on, but hardly measured; add rows."
        )
    return notes


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(repr, names[:10])) + more


def _named_columns(columns: Sequence[ColumnProfile]) -> str:
    return ", ".join(f"{column.name!r} ({counted(column.distinct, 'different value')})" for column in columns)
