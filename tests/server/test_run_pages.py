"""The pages of a run folder that a stranger made: known files only, no links, and nothing that acts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.served import LIMITS, client_of
from whinchat.server.app import create_app
from whinchat.server.response_watch import FIGURE_POLICY, STYLED_POLICY
from whinchat.server.run_pages import RunPages
from whinchat.server.served_models import ModelHost
from whinchat.storage.run_folder import RunFolder

_EVIL_CARD = """---
license: mit
---
# Card

<form action="https://evil.example"><input name="password"><button>Log in</button></form>
<meta http-equiv="refresh" content="0; url=https://evil.example">
<script>alert(1)</script>

<details onclick="alert(1)"><summary>Evil</summary>

<details><summary>The recipe</summary>

<svg onload=alert(1)> [click](javascript:alert(1)) ![x](https://evil.example/x.png) <b>bold</b>

</details>

| a | b |
|---|---|
| 1 | <base href="https://evil.example"> |
"""


@pytest.fixture
def evil_run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a run with a stranger's additions."""
    folder = tmp_path / "evil"
    shutil.copytree(runs["first"], folder)
    (folder / "README.md").write_text(_EVIL_CARD, encoding="utf-8")
    secret = tmp_path / "secret.svg"
    secret.write_text("secret", encoding="utf-8")
    figures = folder / "figures"
    for name in ("evil.html", "evil.js", "evil.svg"):
        (figures / name).write_text("evil", encoding="utf-8")
    (figures / "per_label.svg").unlink()
    (figures / "per_label.svg").symlink_to(secret)
    (figures / "coverage.png").unlink(missing_ok=True)
    os.mkfifo(figures / "coverage.png")
    (figures / "confusion_score.png").unlink(missing_ok=True)
    (figures / "confusion_score.png").symlink_to("confusion_score.png")
    (figures / "training_curve.svg").unlink(missing_ok=True)
    (figures / "training_curve.svg").mkdir()
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(secret)
    (folder / "samples.json").unlink()
    (folder / "samples.json").symlink_to(runs["second"] / "samples.json")
    return folder


def test_only_known_files_of_the_run_itself(evil_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    pages = RunPages.read("evil", RunFolder(evil_run), 60)
    assert pages.report is None
    assert pages.examples == ()
    assert "reliability.svg" in pages.figures
    strange = {"per_label.svg", "coverage.png", "confusion_score.png", "training_curve.svg", "evil.html", "evil.svg"}
    assert not strange & set(pages.figures)
    assert b"secret" not in pages.figures.values()
    assert "per_label.svg: is a link, so the server does not show the file" in caplog.text


def test_examples_are_short_and_decent(tmp_path: Path) -> None:
    def examples(*texts: tuple[str, str]) -> tuple[str, ...]:
        answers = {"before": None, "after": None, "before_scored": "a", "after_scored": "a"}
        samples = [{"text": text, "expected": label, **answers} for text, label in texts]
        (tmp_path / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
        return RunPages.read("run", RunFolder(tmp_path), 500).examples

    long, longer = "day " * 60, "night " * 50
    texts = [
        ("one", "a"),
        ("two", "a"),
        (long, "b"),
        ("what the fuck", "b"),
        ("\ud83d", "b"),
        (" ", "c"),
        ("four", "c"),
    ]
    assert examples(*texts) == ("one", "four", "two")
    assert RunPages.read("run", RunFolder(tmp_path), 500, quotes_texts=False).examples == ()
    # Where no text is short, the shortest ones that the server takes.
    assert examples((longer, "a"), (long, "a"), ("z" * 501, "b")) == (long, longer)


def test_a_linked_folder_of_figures(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    shutil.copytree(runs["first"], folder, ignore=shutil.ignore_patterns("figures"))
    (folder / "figures").symlink_to(runs["first"] / "figures")
    assert RunPages.read("linked", RunFolder(folder), 60).figures == {}
    # The user's own link to the run is no matter.
    (tmp_path / "latest").symlink_to(runs["first"])
    assert RunPages.read("latest", RunFolder(tmp_path / "latest"), 60).figures


def test_the_links_in_the_cache_of_the_hub(runs: dict[str, Path], tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(runs["first"] / "figures", snapshot / "figures")
    blobs.mkdir()
    shutil.copy(runs["first"] / "README.md", blobs / "abc")
    (snapshot / "README.md").symlink_to("../../blobs/abc")
    (snapshot / "report.html").symlink_to(runs["first"] / "report.html")
    pages = RunPages.read("hub", RunFolder(snapshot), 60)
    assert pages.card is not None
    assert pages.report is None
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert RunPages.read("hub", RunFolder(snapshot), 60).card is None


def test_a_card_shows_strange_html_as_text(evil_run: Path) -> None:
    card = RunPages.read("<evil>", RunFolder(evil_run), 60).card
    assert card is not None
    body = card.partition("<main>")[2]
    for tag in ("<form", "<input", "<meta", "<script", "<svg", "<b>", "<base", "<details onclick", 'href="javascript'):
        assert tag not in body, tag
    assert "<details><summary>The recipe</summary>" in body
    assert "&lt;form action=" in body
    assert "<title>&lt;evil&gt;</title>" in card
    (evil_run / "README.md").write_bytes(b"---\nx\n---\n\xff")
    assert "\ufffd" in (RunPages.read("evil", RunFolder(evil_run), 60).card or "")


def test_pages_are_boxed_in(host: ModelHost) -> None:
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        for path, policy, kind in (
            ("/runs/first/card", STYLED_POLICY, "text/html; charset=utf-8"),
            ("/runs/first/report", STYLED_POLICY, "text/html; charset=utf-8"),
            ("/runs/first/figures/reliability.svg", FIGURE_POLICY, "image/svg+xml"),
            ("/runs/first/figures/reliability.png", FIGURE_POLICY, "image/png"),
        ):
            response = client.get(path)
            assert response.status_code == 200
            assert response.headers["content-type"] == kind
            assert response.headers["content-security-policy"] == policy
            assert response.headers["x-content-type-options"] == "nosniff"
        for name in ("evil.html", "evil.js", "reliability.svg.html", "reliability", ".svg", "%2e%2e%2fREADME.md"):
            assert client.get(f"/runs/first/figures/{name}").status_code == 404
    for policy in (STYLED_POLICY, FIGURE_POLICY):
        assert "sandbox" in policy
        assert "allow-scripts" not in policy
        assert "allow-forms" not in policy
