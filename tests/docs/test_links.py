"""Links between the Markdown files lead somewhere, and every page is in the site's navigation."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)
_ID = re.compile(r'<a id="([^"]+)">')


def anchors(text: str) -> set[str]:
    """Return the anchors of a page as Python-Markdown makes them from its headings."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    made = set(_ID.findall(text))
    for heading in _HEADING.findall(plain):
        words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        made.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()))
    return made


def test_links_resolve(documents: list[Path], root: Path) -> None:
    broken = []
    for document in documents:
        for link in _LINK.findall(_CODE.sub("", document.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            if not target.exists():
                broken.append(f"{document.relative_to(root)}: {link}: no such file")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
                broken.append(f"{document.relative_to(root)}: {link}: no such heading")
    assert not broken, "\n".join(broken)


def test_every_page_is_in_the_navigation(root: Path) -> None:
    config = yaml.safe_load((root / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(entry: object) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        parts = entry.values() if isinstance(entry, dict) else entry
        return set().union(*map(leaves, parts))  # type: ignore[arg-type]  # a list or the values of a mapping

    pages = {path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*.md")}
    assert leaves(config["nav"]) == pages


def test_every_image_is_shown(documents: list[Path], root: Path) -> None:
    shown = "".join(document.read_text(encoding="utf-8") for document in documents)
    images = {path.name for path in (root / "docs").rglob("*.png")}
    assert not {name for name in images if name not in shown}


def test_the_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_architecture_names_every_package(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (root / "src" / "whinchat").glob("*/__init__.py")}
    assert not {name for name in packages if f"`{name}/`" not in text}
