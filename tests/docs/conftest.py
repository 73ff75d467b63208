"""Where the documentation's pages and their generator lie."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.programs import load_program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """The program ``docs/generate.py`` as a module."""
    return load_program(ROOT / "docs" / "generate.py")


@pytest.fixture(scope="session")
def documents() -> list[Path]:
    """Every Markdown file that users read, but for the changelog, which also names what is gone."""
    files = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted([*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
