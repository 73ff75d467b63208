"""The figures of an arena: the learning curve, quality beside cost, and quality against cost."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from whinchat.arena.arena_results import ArenaResults, Standings
from whinchat.arena.frontier_figure import draw_frontier
from whinchat.arena.method_style import MethodStyle, method_styles
from whinchat.report.figures.run_figures import FigureSpec
from whinchat.report.figures.style import Theme, new_figure, shorten
from whinchat.report.formatting import format_bytes, format_count, format_duration, format_number

SMALLEST_DRAWN = 1e-3  # seconds or milliseconds; a logarithmic axis cannot show zero
LABEL_GAP = 0.035  # least distance between two labels beside an axis, as a share of its height


def arena_figures(results: ArenaResults) -> tuple[FigureSpec, ...]:
    """Return the figures that can be drawn of the results; a learning curve takes two sizes."""
    return tuple(figure for standings in results.standings for figure in _figures(results, standings))


def _figures(results: ArenaResults, standings: Standings) -> list[FigureSpec]:
    """Return the figures of one question or the mean; those of a question have its name in theirs."""
    suffix = "" if standings.question is None else f"_{standings.question}"
    subject, best = _subject(standings), _best(standings)
    figures = []
    if len({summary.rows for summary in standings.summaries if summary.rows is not None}) > 1:
        alt = f"{_capital(subject)} against the number of training rows. {best}"
        figures.append(
            FigureSpec(f"learning_curve{suffix}", alt, lambda theme: draw_learning_curve(results, standings, theme))
        )
    alt = f"{_capital(subject)} of each method beside its time and memory. {best}"
    figures.append(FigureSpec(f"cost{suffix}", alt, lambda theme: draw_cost(results, standings, theme)))
    alt = f"{_capital(subject)} of each method against its time for a text and for training. {best}"
    styles = method_styles(standings)
    frontier = FigureSpec(f"frontier{suffix}", alt, lambda theme: draw_frontier(results, standings, styles, theme))
    return [*figures, frontier]


def draw_learning_curve(results: ArenaResults, standings: Standings, theme: Theme) -> Figure:
    """Draw the mean of the main metric of each method against the size of its training set; bands span all seeds."""
    figure = new_figure(8.2, 5.0)
    ax = figure.subplots()
    styles = method_styles(standings)
    sizes = [rows for rows in results.sizes if any(summary.rows == rows for summary in standings.summaries)]
    last_means: dict[str, float] = {}
    for method, style in styles.items():
        curve = [summary for summary in standings.summaries if summary.method == method]  # by size, ascending
        flat = curve[0].rows is None
        x = [sizes[0], sizes[-1]] if flat else [summary.rows or 0 for summary in curve]
        curve = curve * 2 if flat else curve
        means = [summary.mean_score for summary in curve]
        ax.plot(
            x, means, color=style.color, linestyle=style.line, linewidth=1.9, marker="" if flat else style.marker,
            markersize=6, markeredgecolor=theme.paper,
        )  # fmt: skip
        if any(len(summary.seeds) > 1 for summary in curve):
            low, high = [summary.low for summary in curve], [summary.high for summary in curve]
            ax.fill_between(x, low, high, color=style.color, alpha=0.14, linewidth=0)
        last_means[method] = means[-1]
    ax.set_xscale("log")
    ax.set_xticks(sizes, [format_count(rows) for rows in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="training rows", ylabel=_axis_label(standings))
    ax.grid()
    _label_ends(ax, last_means, styles)
    figure.suptitle(f"{shorten(results.name)}: {_subject(standings)} by number of training rows", x=0.0, ha="left")
    ax.set_title(_seeds(standings), color=theme.muted, fontsize=9, fontweight="normal")
    return figure


def draw_cost(results: ArenaResults, standings: Standings, theme: Theme) -> Figure:
    """Draw each method at the largest size, best first: its main metric, time of training and of an answer, and memory.

    A thick bar spans all seeds, a thin bar the 95 % interval over resampled rows.
    """
    rows = max((summary.rows for summary in standings.summaries if summary.rows is not None), default=0)
    summaries = sorted(standings.at(rows), key=lambda summary: summary.mean_score)
    styles = method_styles(standings)
    colors = [styles[summary.method].color for summary in summaries]
    figure = new_figure(10.2, 1.7 + 0.28 * len(summaries))
    quality, training, answering, memory = figure.subplots(1, 4, sharey=True, width_ratios=(2, 1, 1, 1))
    for y, (summary, color) in enumerate(zip(summaries, colors, strict=True)):
        quality.plot([summary.over_rows.low, summary.over_rows.high], [y, y], color=color, linewidth=1, zorder=2)
        quality.plot([summary.low, summary.high], [y, y], color=color, linewidth=3.5, alpha=0.6, zorder=2)
        quality.plot(summary.mean_score, y, "o", color=color, markersize=7, markeredgecolor=theme.paper, zorder=3)
    names = [f"{shorten(summary.method)}  {format_number(summary.mean_score)}" for summary in summaries]
    quality.set_yticks(range(len(summaries)), names)
    quality.set(xlabel=_axis_label(standings))
    quality.grid()
    fit_seconds = [round(summary.fit_seconds, 2) if summary.trainable_parameters else 0 for summary in summaries]
    milliseconds = [1000 / summary.answers_per_second for summary in summaries]
    peak_bytes = [summary.peak_device_bytes or summary.peak_memory_bytes for summary in summaries]
    for ax, label, values, texts in (
        (training, "training time", fit_seconds, [format_duration(value) for value in fit_seconds]),
        (
            answering,
            "time per text" if standings.title else "time per answer",
            milliseconds,
            [f"{value:,.0f} ms" if value > 10 else f"{value:.2g} ms" for value in milliseconds],
        ),
        (memory, "peak memory", peak_bytes, [format_bytes(value) for value in peak_bytes]),
    ):
        _draw_column(ax, values, texts, colors, theme)
        ax.set(xlabel=label)
    subject = f"{standings.title}, quality and cost" if standings.title else "quality and cost"
    title = f"{shorten(results.name)}: {subject}, {format_count(rows)} training rows"
    figure.suptitle(title, x=0.0, ha="left")
    title = f"{_seeds(standings)}; thin bars: 95 % interval over resampled rows"
    quality.set_title(title, color=theme.muted, fontsize=9, fontweight="normal")
    return figure


def _draw_column(ax: Axes, values: Sequence[float], texts: Sequence[str], colors: Sequence[str], theme: Theme) -> None:
    """Draw a dot and its value for each method on a logarithmic axis; values near zero have none."""
    for y, (value, text, color) in enumerate(zip(values, texts, colors, strict=True)):
        if value > SMALLEST_DRAWN:
            ax.plot(value, y, "o", color=color, markersize=7, markeredgecolor=theme.paper)
            ax.annotate(
                text, (value, y), (7, 0), textcoords="offset points",
                va="center", color=theme.muted, fontsize=8, bbox={"color": theme.paper, "pad": 1},
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(NullLocator())
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.75)  # leaves room for the value of the rightmost dot
    ax.grid(axis="y")


def _label_ends(ax: Axes, last_means: Mapping[str, float], styles: Mapping[str, MethodStyle]) -> None:
    """Write each method's name beside the end of its curve; labels that would overlap are moved apart."""
    low, high = ax.get_ylim()
    height = -1.0
    for method, mean in sorted(last_means.items(), key=lambda item: item[1]):
        height = max((mean - low) / (high - low), height + LABEL_GAP)
        ax.annotate(
            f"{shorten(method)} {format_number(mean)}", (1, height), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", color=styles[method].color, fontsize=9,
        )  # fmt: skip


def _subject(standings: Standings) -> str:
    """Return the main metric in words, such as "QWK of urgency"."""
    if standings.question is not None:
        return f"{standings.metric} of {standings.question}"
    return f"{standings.metric} over questions" if standings.title else standings.metric


def _axis_label(standings: Standings) -> str:
    return f"{standings.metric} on {format_count(standings.rows)} rows"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _seeds(standings: Standings) -> str:
    most = max(len(summary.seeds) for summary in standings.summaries)
    return f"mean and range of {most} seeds" if most > 1 else "one seed, so no range"


def _best(standings: Standings) -> str:
    best = max(standings.summaries, key=lambda summary: summary.mean_score)
    size = "any number of rows" if best.rows is None else f"{format_count(best.rows)} rows"
    cost = f"{format_duration(best.fit_seconds)} of training"
    return f"Best: {best.method} with {size}, {format_number(best.mean_score)} after {cost}."
