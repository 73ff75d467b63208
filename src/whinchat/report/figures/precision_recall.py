"""The curve of precision against recall of a yes/no question."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from whinchat.evaluation.question_results import PrecisionRecallPoint, QuestionResult
from whinchat.report.figures.style import Theme, new_figure, set_title, write_message
from whinchat.report.formatting import NOT_MEASURED, format_number


def draw_precision_recall(result: QuestionResult, title: str, theme: Theme) -> Figure:
    """Draw precision against recall of "yes" before and after training, and mark the answers that are given."""
    figure = new_figure(min(5.6, theme.widest), 4.4 if not theme.is_narrow else 3.8)
    ax = figure.subplots()
    shipped = result.shipped
    if not shipped.curve:
        write_message(ax, f"Precision and recall: {NOT_MEASURED},\nthe texts have one answer only", theme)
        set_title(figure, title)
        return figure
    for name, metrics, color, width in (
        ("before training", result.before, theme.before, 1.4),
        ("after training", shipped, theme.after, 2.2),
    ):
        area = format_number(metrics.values["auc_pr"])
        ax.step(*_points(metrics.curve), where="pre", color=color, linewidth=width, label=f"{name}: AUC-PR {area}")
    (_, false), (missed, hits) = shipped.confusion
    yes = (missed + hits) / result.rows
    ax.axhline(yes, color=theme.muted, linewidth=1, linestyle=(0, (4, 4)), zorder=1, label="always yes")
    if hits + false:
        recall, precision = hits / (hits + missed), hits / (hits + false)
        ax.plot(recall, precision, color=theme.accent, marker="D", markersize=8, linestyle="", label="answers given")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall of yes", ylabel="precision of yes")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    ax.grid()
    # Above the axes, where it never covers a curve.
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0.1, handlelength=1.2)
    set_title(figure, title)
    return figure


def _points(curve: tuple[PrecisionRecallPoint, ...]) -> tuple[list[float], list[float]]:
    """Recall and precision of each point, from a recall of 0 with the precision of the first point."""
    first = curve[0]
    return [0.0, *(point.recall for point in curve)], [first.precision, *(point.precision for point in curve)]
