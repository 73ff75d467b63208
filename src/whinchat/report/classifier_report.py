"""The report of a ``Classifier``: its results on some texts, before and after training, for people who use Python."""

import html
from dataclasses import dataclass

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.report.figures.confusion import ConfusionPanel, draw_confusion
from whinchat.report.figures.style import LIGHT, figure_theme, to_svg
from whinchat.report.formatting import format_count, format_metric, format_number
from whinchat.report.text_table import TextTable
from whinchat.report.visible_text import one_line
from whinchat.wording import counted


@dataclass(frozen=True)
class ClassifierReport:
    """The results of a classifier on some texts; ``print`` shows tables, and a notebook a figure, too.

    Attributes:
        texts: which texts were answered.
        after: metrics of the classifier's answers.
        before: metrics of the same model before training; None for a merged model, whose earlier weights are gone.
    """

    texts: str
    after: Metrics
    before: Metrics | None

    def __str__(self) -> str:
        """Return the tables as lines of text."""
        return "\n\n".join(f"{table.caption}\n{_aligned(table)}" for table in self._tables())

    def _repr_html_(self) -> str:
        """Return confusion matrices before and after training, and the tables, for a notebook."""
        measured = (("Before training", self.before), ("After training", self.after))
        panels = tuple(ConfusionPanel.of(heading, metrics) for heading, metrics in measured if metrics is not None)
        title = f"Accuracy {format_number(self.after.accuracy)} on {self.texts}"
        with figure_theme(LIGHT):
            figure = to_svg(draw_confusion(panels, title, LIGHT))
        # A white ground, since notebooks can be dark and the figure's ink is.
        svg = figure[figure.index("<svg") :].replace("<svg", '<svg style="max-width:100%;height:auto"', 1)
        picture = f'<div style="background:white;max-width:60em">{svg}</div>'
        return picture + "".join(map(_html_table, self._tables()))

    def _tables(self) -> tuple[TextTable, TextTable]:
        largest = max(label.support for label in self.after.per_label) / self.after.n
        rows = [
            (metric.heading, format_metric(self.before, name), format_metric(self.after, name))
            for name, metric in METRICS.items()
        ]
        rows.append(("accuracy of always giving the most frequent label", "", format_number(largest)))
        labels = [
            (
                one_line(label.label),
                format_number(label.precision),
                format_number(label.recall),
                format_number(label.f1),
                format_count(label.support),
            )
            for label in self.after.per_label
        ]
        caption = f"Results on {self.texts}, with 95 % intervals"
        return (
            TextTable(caption, ("", "before training", "after training"), tuple(rows)),
            TextTable("Labels after training", ("label", "precision", "recall", "F1", "texts"), tuple(labels)),
        )


def held_out_texts(count: int) -> str:
    """Return words for the texts that ``fit`` held out and measured."""
    return f"{counted(count, 'text')} that fit held out"


def _aligned(table: TextTable) -> str:
    rows = (table.columns, *table.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _html_table(table: TextTable) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in table.rows)
    return f"<table><caption>{html.escape(table.caption)}</caption>{line(table.columns, 'th')}{body}</table>"
