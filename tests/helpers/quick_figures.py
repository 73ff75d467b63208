"""Blank figures in place of drawn ones, which take longer than a tiny model's run."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from whinchat.output_files import replace_file
from whinchat.report.figures.run_figures import FigureSpec

DRAWN = {"svg": FigureSpec.svg, "write": FigureSpec.write}
_PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


def blank_svg(self: FigureSpec, theme: object = None) -> str:
    """An SVG that says which figure it stands for."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="72pt"><title>{self.name}</title></svg>'


def blank_files(self: FigureSpec, folder: Path) -> tuple[Path, Path]:
    """The files that ``FigureSpec.write`` writes."""
    png, svg = folder / f"{self.name}.png", folder / f"{self.name}.svg"
    replace_file(png, lambda draft: draft.write_bytes(_PNG))
    replace_file(svg, lambda draft: draft.write_text(blank_svg(self), encoding="utf-8"))
    return png, svg


@contextmanager
def draw_no_figures() -> Iterator[None]:
    """Inside, figures are blank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureSpec, "svg", blank_svg)
        patch.setattr(FigureSpec, "write", blank_files)
        yield
