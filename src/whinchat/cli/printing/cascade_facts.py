"""Print what ``whinchat distill`` made and measured."""

from __future__ import annotations

import whinchat
from whinchat.cli.output import print_line
from whinchat.report.cascade_note import cascade_sentences


def print_cascade(facts: whinchat.CascadeFacts) -> None:
    """Print which share of the texts the student answers, how well it agrees, and what that costs and saves."""
    for sentence in cascade_sentences(facts):
        print_line(sentence)
