"""The common style of all figures: two themes, titles, and files.

Colours differ in lightness as well as in hue, so that they work in print and for colour-blind readers. Values before
training are always drawn hollow, values after training filled.
"""

import io
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from whinchat.output_files import replace_file
from whinchat.report.visible_text import one_line, visible
from whinchat.storage.atomic import write_text

PNG_DPI = 200
LONGEST_NAME = 30
_TIGHT: Any = {"bbox_inches": "tight", "pad_inches": 0.15}
TITLE_CHARACTER_WIDTH = 0.108  # inches, at the font size of a title

# DejaVu Sans comes with matplotlib; the other fonts are used only if they are installed.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Noto Sans Arabic")


@dataclass(frozen=True)
class Theme:
    """The colours of a theme as hex strings, and the width of its figures.

    ``ramp`` runs from a share of 0 to a share of 1. ``widest`` is the most inches that a figure may be wide.
    """

    paper: str
    ink: str
    muted: str
    line: str
    before: str
    after: str
    accent: str
    ramp: tuple[str, ...]
    widest: float = math.inf

    @property
    def is_narrow(self) -> bool:
        """Whether figures are drawn for a phone."""
        return self.widest < math.inf

    def narrow(self) -> "Theme":
        """Return the theme for a phone: a figure at its natural size fits 343 CSS pixels."""
        return replace(self, widest=3.25)

    @property
    def colormap(self) -> Colormap:
        """The ramp as a continuous colour map; a missing share (NaN) takes the colour of the paper."""
        return LinearSegmentedColormap.from_list("share", self.ramp).with_extremes(bad=self.paper)


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d2733",
    muted="#5f6b7a",
    line="#dde3ea",
    before="#8a94a3",
    after="#1b6ca8",
    accent="#c8641b",
    ramp=("#f2f6fa", "#c3d9ec", "#6fa8d2", "#1b6ca8", "#0c3e68"),
)
DARK = Theme(
    paper="#171d25",
    ink="#e8edf3",
    muted="#9aa7b6",
    line="#323c49",
    before="#8a96a6",
    after="#5fb0ec",
    accent="#f0954c",
    ramp=("#1f2833", "#22486b", "#2c74ad", "#5fb0ec", "#c4e4fb"),
)


@contextmanager
def figure_theme(theme: Theme) -> Iterator[None]:
    """Apply the settings of a theme to matplotlib; draw and save figures inside the block."""
    installed = set(font_manager.get_font_names())
    settings: Any = {
        "font.family": [name for name in FONTS if name in installed] or ["sans-serif"],
        "font.size": 9.5,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.labelsize": 9.5,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.line,
        "axes.facecolor": theme.paper,
        "axes.titlecolor": theme.ink,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": theme.paper,
        "figure.titlesize": 12.5,
        "figure.titleweight": "bold",
        "text.color": theme.ink,
        "text.parse_math": False,  # a label such as "$5 off$" is text
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "grid.color": theme.line,
        "grid.linewidth": 0.8,
        "legend.facecolor": theme.paper,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.9,
        "legend.fontsize": 9,
        "lines.solid_capstyle": "round",
        "savefig.facecolor": theme.paper,
        "svg.fonttype": "path",
        "svg.hashsalt": "whinchat",  # the same record gives the same bytes
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float, layout: str = "constrained") -> Figure:
    """Return an empty figure, without a window or global state; ``width`` and ``height`` in inches."""
    # The stub wants a literal; every caller passes one of them.
    return Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]


def set_title(figure: Figure, title: str) -> None:
    """Put the title above the figure, aligned to the left and wrapped at the width of the figure."""
    characters = max(20, int(figure.get_figwidth() / TITLE_CHARACTER_WIDTH))
    figure.suptitle(textwrap.fill(one_line(title), characters), x=0.0, ha="left")


def shorten(name: str) -> str:
    """Return a name on one line, cut with an ellipsis if it has more than ``LONGEST_NAME`` characters."""
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def wrap_name(name: str, characters: int = 18) -> str:
    """Return a shortened name in lines of at most so many characters."""
    return textwrap.fill(shorten(name), characters)


def write_message(ax: Axes, message: str, theme: Theme) -> None:
    """Write a message in place of a plot."""
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", color=theme.muted, fontsize=11)
    ax.set(xticks=[], yticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write the figure to ``stem`` as PNG and SVG, and return both paths; call inside ``figure_theme``."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    replace_file(
        png, lambda draft: figure.savefig(draft, format="png", dpi=PNG_DPI, metadata={"Software": None}, **_TIGHT)
    )
    write_text(svg, to_svg(figure))
    return png, svg


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text; call inside ``figure_theme``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **_TIGHT)
    # matplotlib repeats each text of the figure in a comment, as it is.
    return visible(buffer.getvalue())
