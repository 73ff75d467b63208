"""Colour, marker and line of each method in the figures of an arena."""

from dataclasses import dataclass

from whinchat.arena.arena_results import Standings
from whinchat.arena.contestant_registry import Family, find_kind

LineStyle = tuple[int, tuple[int, ...]] | str

# Methods differ in lightness and hue, in marker and in line style, so that they can be told apart without colour.
COLORS: dict[Family, tuple[str, ...]] = {
    "simple": ("#8a94a3", "#5f6b7a", "#a08060"),
    "prompting": ("#d99a3d", "#b5541c"),
    "trained": (
        "#1b6ca8", "#3a9d6f", "#8e5bb5", "#c2406b", "#6d8f1f", "#2aa7b8", "#5a6fd6", "#7d4a2d", "#d1495b",
    ),
}  # fmt: skip
LINES: dict[Family, LineStyle] = {"simple": (0, (5, 2)), "prompting": (0, (1, 1)), "trained": "solid"}
MARKERS = "osD^vP*Xhp<>d"


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn in every figure."""

    color: str
    marker: str
    line: LineStyle


def method_styles(standings: Standings) -> dict[str, MethodStyle]:
    """Return colour, marker and line style of every method, in the order of the arena."""
    styles: dict[str, MethodStyle] = {}
    used = dict.fromkeys(COLORS, 0)
    for method, kind in {summary.method: summary.kind for summary in standings.summaries}.items():
        family = find_kind(kind).family
        color, marker = COLORS[family][used[family] % len(COLORS[family])], MARKERS[len(styles) % len(MARKERS)]
        styles[method] = MethodStyle(color, marker, LINES[family])
        used[family] += 1
    return styles
