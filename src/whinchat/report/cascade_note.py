"""Sentences about a cascade: which texts its student answers, how well it agrees, and what that costs and saves."""

from __future__ import annotations

from collections.abc import Iterator

from whinchat.evaluation.cascade_results import CascadeFacts
from whinchat.evaluation.metric_registry import METRICS
from whinchat.report.formatting import format_estimate, format_interval, format_number, format_percent, format_signed


def cascade_sentences(facts: CascadeFacts) -> Iterator[str]:
    """Yield what ``cascade.json`` says, a sentence or two for each fact."""
    test, quality = facts.test, facts.quality
    more = f", {facts.unlabelled_texts:,} of them unlabelled" if facts.unlabelled_texts else ""
    yield f"The student learned from {facts.training_texts:,} texts{more}."
    if test.threshold is None or test.interval is None:
        yield (
            f"It answers no text: on {test.texts:,} held-out texts ({facts.held_out}), no confidence reaches an "
            f"agreement of {test.wanted:g}. More texts with --unlabelled make it better; --agreement asks for less."
        )
        return
    yield (
        f"It answers {format_percent(test.coverage)} of the texts, those with a confidence of at least "
        f"{test.threshold:.3f}. There, {test.agreeing:,} of {test.answered:,} answers are the classifier's: "
        f"{format_estimate(test.agreeing / test.answered, test.interval)}, on {test.texts:,} held-out "
        f"texts ({facts.held_out}); {test.wanted:g} was asked for."
    )
    yield (
        f"Texts a second on the machine that made the student: classifier {facts.classifier_per_second:,.0f}, student "
        f"{facts.student_per_second:,.0f}, both as a cascade {facts.per_second:,.0f} "
        f"({facts.per_second / facts.classifier_per_second:.1f} x)."
    )
    if quality is not None:
        yield (
            f"{METRICS[quality.metric].title} on {quality.rows:,} rows of {quality.split}: classifier "
            f"{format_number(quality.classifier)}, student alone {format_number(quality.student)}, cascade "
            f"{format_number(quality.cascade)}. The cascade changes it by {format_signed(quality.change)} "
            f"(95 % interval: {format_interval(quality.change_interval)})."
        )
