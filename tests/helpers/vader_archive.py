"""A small archive as the one with VADER's rated texts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

COLLECTIONS = ("tweets", "amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets")


def write_archive(path: Path, changed: Mapping[str, bytes | None] | None = None) -> Path:
    """Write the archive: two texts of each collection, with the ratings -1, 0, 0, 3 and -2, -2.

    Args:
        path: where to write it.
        changed: name of a file -> other content; None leaves the file out.
    """
    files: dict[str, bytes | None] = {}
    for name in COLLECTIONS:
        truth = f"1_1\t0.5\t{name} one\tend\r\n1_2\t-2\t{name} “two”\r\n"
        ratings = "1_1\t0.5\t1.0\t[-1, 0, 0, 3]\r\n1_2\t-2\t0\t[-2, -2]\r\n"
        # One of the published files begins with a byte order mark.
        files[f"{name}_GroundTruth.txt"] = truth.encode()
        files[f"{name}_anonDataRatings.txt"] = ratings.encode(
            "utf-8-sig" if name == "amazonReviewSnippets" else "utf-8"
        )
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (files | dict(changed or {})).items():
            if content is not None:
                member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
