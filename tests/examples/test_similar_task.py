"""The start from a similar task: VADER's ratings become the table of the example's recipe."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.helpers.programs import load_program
from whinchat.arena.spec import load_arena
from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "similar-task"
ROWS = 40
LABELS = ("negative", "neutral", "positive")


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def package(folder: Path) -> Path:
    """A source archive as VADER's, in which the last sentence of each collection has no ratings."""
    files = {}
    for name in ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets"):
        truth = "".join(f"{row}\t{(-2.5, 0.4, 0.5, -0.4)[row % 4]}\t{name} number {row}\tend\n" for row in range(ROWS))
        ratings = "".join(f"{row}\t0.5\t1.0\t[-1, 0, 0, {row % 4}]\n" for row in range(ROWS - 1))
        files[f"hutto_ICWSM_2014/{name}_GroundTruth.txt"] = truth.encode()
        files[f"hutto_ICWSM_2014/{name}_anonDataRatings.txt"] = ratings.encode()
    inner = {"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": packed(files)}
    target = folder / "vaderSentiment-3.3.2.tar.gz"
    target.write_bytes(packed(inner))
    return target


def test_ratings_become_the_shares_of_the_recipe(tmp_path: Path) -> None:
    ratings, tweets = tmp_path / "ratings.csv", tmp_path / "tweets.csv"
    load_program(EXAMPLE / "make_table.py").write_table(package(tmp_path), ratings)
    tweets.write_text(
        "text,label\n" + "".join(f"tweet {row},{LABELS[row % 3]}\n" for row in range(ROWS)), encoding="utf-8"
    )
    overrides = [f"data.source={tweets}", f"data.soft_labels={ratings}", "data.validation_rows=4", "data.test_rows=4"]
    corpus = load_corpus(load_recipe(str(EXAMPLE / "recipe.yaml"), overrides))
    soft = corpus.soft
    assert soft is not None
    assert len(soft) == 3 * (ROWS - 1)
    shares = dict(zip(soft.texts, soft.shares, strict=True))
    assert shares["movieReviewSnippets number 4\tend"] == pytest.approx((0.25, 0.75, 0.0))
    assert shares["movieReviewSnippets number 5\tend"] == pytest.approx((0.25, 0.5, 0.25))


def test_both_starts_of_the_arena_ask_alike() -> None:
    arena = load_arena(str(EXAMPLE / "arena.yaml"), [])
    started = load_recipe(str(EXAMPLE / "recipe.yaml"), []).task
    task = load_recipe(arena.recipe, list(arena.set)).task
    assert (started.instruction, started.labels, started.clean) == (task.instruction, task.labels, task.clean)
