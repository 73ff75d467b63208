"""Print predictions, and the outcome of labelling a file, of an export or of a push."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import emit_json, fits_terminal, out, print_line, print_lines, print_table
from whinchat.export.export_registry import holds_student
from whinchat.report.formatting import format_bytes
from whinchat.report.text_table import TextTable
from whinchat.wording import counted


def print_predictions(
    texts: Sequence[str],
    faults: Sequence[str],
    predictions: whinchat.Predictions | whinchat.QuestionPredictions,
    as_json: bool,
) -> None:
    """Print the label and the probabilities of each text: a table, or one JSON object on each line.

    The answers to several questions stand below each text, one a line.

    Args:
        texts: the texts.
        faults: why there is no prompt for a text; empty for a text with a prediction.
        predictions: the predictions for the texts without a fault, in their order.
        as_json: whether to print JSON.
    """
    predicted_rows = itertools.count()
    rows_of = [None if fault else next(predicted_rows) for fault in faults]
    if as_json:
        for text, fault, row in zip(texts, faults, rows_of, strict=True):
            answer = {"error": fault} if row is None else predictions.to_dict(row)
            emit_json({"text": text, **answer}, indent=None)
        return
    if not isinstance(predictions, whinchat.Predictions):
        _print_answers(texts, faults, rows_of, predictions)
        return
    lines = [[Text(heading) for heading in ("label", *predictions.labels, "text")]]
    for text, fault, row in zip(texts, faults, rows_of, strict=True):
        if row is None:
            lines.append([Text("error"), *[Text("")] * len(predictions.labels), Text(f"{text} ({fault})")])
            continue
        probabilities = [Text(f"{probability:.3f}") for probability in predictions.probabilities[row]]
        probabilities[predictions.label_indices[row]].style = "bold"
        lines.append([_answer(predictions, row), *probabilities, Text(text)])
    if out.is_terminal and not fits_terminal(lines):
        _print_most_probable(texts, faults, rows_of, predictions)
    else:
        print_lines(lines)


# Labels of each text that are shown where the terminal has no room for all.
_SHOWN_LABELS = 3


def _print_most_probable(
    texts: Sequence[str], faults: Sequence[str], rows_of: Sequence[int | None], predictions: whinchat.Predictions
) -> None:
    """Print the most probable labels of each text, one below the other."""
    lines = [[Text("label"), Text("p"), Text("text")]]
    for text, fault, row in zip(texts, faults, rows_of, strict=True):
        if row is None:
            lines.append([Text("error"), Text(""), Text(f"{text} ({fault})")])
            continue
        probabilities = predictions.probabilities[row]
        shown = (-probabilities).argsort(kind="stable")[:_SHOWN_LABELS]
        names = [Text(predictions.labels[label], style="bold" if label == shown[0] else "") for label in shown]
        numbers = [Text(f"{probabilities[label]:.3f}") for label in shown]
        if predictions.unsure[row]:
            names, numbers = [Text("unsure:", style="bold"), *names], [Text(""), *numbers]
        lines.append([Text("\n").join(names), Text("\n").join(numbers), Text(text)])
    if fits_terminal(lines):
        print_lines(lines)
    else:
        for label, number, text_cell in lines[1:]:
            out.print(text_cell)
            for name, probability in zip(label.split("\n"), number.split("\n"), strict=True):
                out.print(Text(f"  {probability.plain.ljust(5)}  ") + name)
    if (hidden := len(predictions.labels) - _SHOWN_LABELS) > 0:
        print_line(f"…and {counted(hidden, 'less probable label')} of each text; --json prints all.")


def _print_answers(
    texts: Sequence[str],
    faults: Sequence[str],
    rows_of: Sequence[int | None],
    predictions: whinchat.QuestionPredictions,
) -> None:
    """Print each text and below it the answer to each question with its most probable options."""
    for text, fault, row in zip(texts, faults, rows_of, strict=True):
        if row is None:
            print_line(f"{text} (error: {fault})")
            continue
        print_line(text)
        lines = []
        for name, answer in predictions.to_dict(row)["answers"].items():
            given = ", ".join(answer["answer"]) or "none" if answer["type"] == "multi" else answer["answer"]
            shown = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])[:_SHOWN_LABELS]
            numbers = ", ".join(f"{option} {probability:.3f}" for option, probability in shown)
            unsure = f"unsure ({given})" if answer["unsure"] else given
            lines.append([Text(f"  {name}"), Text(unsure, style="bold"), Text(numbers)])
        print_lines(lines)


def _answer(predictions: whinchat.Predictions, row: int) -> Text:
    label = predictions.label_names[row]
    return Text(f"unsure ({label})" if predictions.unsure[row] else label, style="bold")


def print_labelled_files(
    counts_of: dict[str, whinchat.LabelCounts], error_column: str, seconds: float, as_json: bool
) -> None:
    """Print how many rows of each file got which label.

    Args:
        counts_of: the path of each labelled file, with its counts.
        error_column: the column that says why a row could not be read.
        seconds: how long the labelling took.
        as_json: print one JSON document instead.
    """
    counts = list(counts_of.values())
    labels = list(counts[0].labels)
    total = whinchat.LabelCounts.total(counts, labels)
    if as_json:
        emit_json({**vars(total), "files": [{"out": path, **vars(count)} for path, count in counts_of.items()]})
        return
    lines = [[Text(heading) for heading in ("file", *labels, "unsure", "could not be read", "rows")]]
    for name, count in (counts_of | {"all": total} if len(counts) > 1 else counts_of).items():
        cells = (*(count.labels.get(label, 0) for label in labels), count.unsure, count.bad, count.rows)
        lines.append([Text(name), *(Text(f"{cell:,}") for cell in cells)])
    # One file has one label a line.
    print_lines(lines if len(counts) > 1 else list(zip(*lines, strict=True)))
    if total.bad:
        print_line(f"{counted(total.bad, 'row')} could not be read; the column {error_column} says why.")
    if total.repeated:
        verb = "has" if total.repeated == 1 else "have"
        rows = counted(total.repeated, "row")
        print_line(f"{rows} {verb} the text of another row nearby; such texts were answered once.")
    if total.by_student:
        print_line(f"The student answered {counted(total.by_student, 'row')}, the model the others.")
    print_line(f"{counted(total.rows, 'row')} in {seconds:,.0f} s")


def print_export(proof: whinchat.ExportProof, folder: Path) -> None:
    """Print how far the answers of each exported file differ from those of the classifier, or of its student."""
    if len({file.question for file in proof.files}) > 1:
        _print_question_proofs(proof, folder)
    else:
        _print_file_proofs(proof, folder)
    if any(file.ends_stripped for file in proof.files):
        print_line("The export strips white space from the ends of a text, which the classifier reads.")
    if proof.not_carried:
        print_line(f"The export does not clean its texts; do these steps before it: {', '.join(proof.not_carried)}")


def _print_file_proofs(proof: whinchat.ExportProof, folder: Path) -> None:
    for file in proof.files:
        compared = f"answers to {file.question}" if file.question else "labels"
        print_line(
            f"{folder / file.file}: {file.flipped} of {proof.texts} {compared} differ from {_source(proof)} own, "
            f"probabilities differ by at most {file.largest_difference:.4f} (read with {file.reader})"
        )
        if file.flipped_uncalibrated is not None:
            print_line(f"  without calibration, as in free generation: {file.flipped_uncalibrated} labels differ")


def _print_question_proofs(proof: whinchat.ExportProof, folder: Path) -> None:
    # A file that contains the calibration answers in no other way.
    plain = () if proof.files[0].flipped_uncalibrated is None else ("without calibration",)
    headings = ("file", "question", "answers that differ", *plain, "largest difference")
    rows = tuple(
        (
            *(file.file, file.question, str(file.flipped)),
            *(str(file.flipped_uncalibrated) for _ in plain),
            f"{file.largest_difference:.4f}",
        )
        for file in proof.files
    )
    print_table(TextTable("", headings, rows, heads=2))
    print_line(
        f"{folder}: all questions, compared with {_source(proof)} own answers about {proof.texts} texts (read with "
        f"{proof.files[0].reader})"
    )


def _source(proof: whinchat.ExportProof) -> str:
    return "the student's" if holds_student(proof.kind) else "the classifier's"


def print_push(result: whinchat.PushResult, repo_id: str) -> None:
    """Print what was pushed, or after a dry run what would be."""
    if result.url is None:
        print_table(TextTable("", ("file", "bytes"), tuple((file.path, f"{file.size:,}") for file in result.files)))
    for warning in result.warnings:
        out.print(f"[bold red]warning:[/] {escape(warning)}", soft_wrap=True)
    done = f"Would push to {repo_id}" if result.url is None else f"Pushed to {result.url}"
    print_line(
        f"{done}: {len(result.files)} files, {format_bytes(result.size)}; they quote {result.quoted_texts} texts of "
        "the data"
    )
