"""The figure of a search for settings: log-loss against learning rate."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from whinchat.report.figures.run_figures import FigureSpec
from whinchat.report.figures.style import Theme, new_figure, set_title, write_message
from whinchat.report.formatting import format_count, format_number
from whinchat.storage.tune_record import TuneResult

MARKERS = "osD^vP*X"


def tune_figure(name: str, result: TuneResult) -> FigureSpec:
    """Return the figure of a search; ``name`` is that of its file, without suffix."""
    best = "No trial was completed."
    if (winner := result.winner) is not None:
        best = f"Best: trial {winner.number}, {winner.settings.describe()}, {format_number(winner.log_loss)}."
    alt = f"Log-loss on validation rows against the learning rate of each trial. {best}"
    return FigureSpec(name, alt, lambda theme: draw_trials(result, theme))


def draw_trials(result: TuneResult, theme: Theme) -> Figure:
    """Draw the log-loss of each complete trial, with a marker for its rank; trials without one stand on the axis."""
    figure = new_figure(min(7.4, theme.widest), 4.2)
    ax = figure.subplots()
    complete = [trial for trial in result.trials if trial.log_loss is not None]
    if not complete:
        write_message(ax, "no trial was completed", theme)
        return figure
    for position, rank in enumerate(result.space.ranks):
        own = [trial for trial in complete if trial.settings.r == rank]
        rates, losses = [trial.settings.learning_rate for trial in own], [trial.log_loss or 0.0 for trial in own]
        ax.plot(
            rates, losses, MARKERS[position % len(MARKERS)], color=theme.after, markersize=7,
            markeredgecolor=theme.paper, label=f"rank {rank}",
        )  # fmt: skip
    low = min(trial.log_loss or 0.0 for trial in complete)
    high = max(trial.log_loss or 0.0 for trial in complete)
    room = 0.12 * (high - low) or 0.05
    ax.set_ylim(low - 1.6 * room, high + room)
    if others := [trial.settings.learning_rate for trial in result.trials if trial.log_loss is None]:
        floor = [low - 1.3 * room] * len(others)
        ax.plot(others, floor, "|", color=theme.muted, markersize=11, label="stopped or diverged")
    for trial in complete:
        notes = ["as it is"] * (trial.number == 1) + ["best"] * (trial.number == result.best)
        if notes:
            ax.annotate(
                ", ".join(notes), (trial.settings.learning_rate, trial.log_loss or 0.0), (0, 8),
                textcoords="offset points", ha="center", color=theme.accent, fontsize=9,
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="learning rate", ylabel=f"log-loss on {format_count(result.validation_rows)} validation rows")
    ax.grid()
    ax.legend()
    set_title(figure, f"{result.recipe}: {len(result.trials)} trials")
    return figure
