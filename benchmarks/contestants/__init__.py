"""The contestants, by kind; each module needs only the libraries of its own peer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.contestants.base import Contestant

KINDS = {
    "whinchat-train": "benchmarks.contestants.whinchat_training:WhinchatTraining",
    "whinchat-score": "benchmarks.contestants.whinchat_scoring:WhinchatScoring",
    "trl-train": "benchmarks.contestants.trl_training:TrlTraining",
    "seqcls-train": "benchmarks.contestants.sequence_classification:HeadTraining",
    "seqcls-score": "benchmarks.contestants.sequence_classification:HeadScoring",
    "generate": "benchmarks.contestants.generation:Generation",
    "llama-cpp": "benchmarks.contestants.llama_cpp:LlamaCpp",
    "peak": "benchmarks.contestants.peak:MatrixPeak",
}


def create(kind: str, options: dict[str, Any]) -> Contestant:
    """A contestant of ``kind``, or of MODULE:CLASS, with its options.

    Raises:
        ValueError: no such kind.
        UnavailableError: its libraries are not installed.
    """
    place = KINDS.get(kind, kind)
    module, colon, name = place.partition(":")
    if not colon:
        raise ValueError(f"{kind}: no such contestant; there are {', '.join(KINDS)}")
    contestant: Contestant = getattr(import_module(module), name)(options)
    return contestant
