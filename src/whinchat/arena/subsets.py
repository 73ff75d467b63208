"""Choose the training rows of a trial: equal for every method, and nested, so that 300 rows contain the 100 rows."""

import random
from collections.abc import Sequence
from itertools import product

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import DataError
from whinchat.evaluation.question_metric_registry import headline
from whinchat.recipe.schema import Recipe


def training_rows(train: Split, rows: int, seed: int, source: str) -> Split:
    """Return the first ``rows`` rows of ``train`` in an order that ``seed`` shuffles.

    Raises:
        DataError: ``train`` has fewer rows; the message names ``source``.
    """
    if rows > len(train):
        raise DataError(
            f"{source}: rows: {rows:,} asked for, train has {len(train):,}; lower rows, or raise data.train_rows if "
            "the source has more"
        )
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    return train.take(order[:rows])


def arena_rows(corpus: Corpus, recipe: Recipe) -> Split:
    """Return the rows on which every trial is measured."""
    return corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)


def check_rows(corpus: Corpus, recipe: Recipe, sizes: Sequence[int], seeds: Sequence[int]) -> None:
    """Check that the data has the rows of an arena.

    Raises:
        DataError: ``corpus`` has fewer training rows, or no evaluated split; or the training rows of a trial have no
            answer to a decision; or the main metric of a question is not defined on the evaluated rows.
    """
    evaluated = arena_rows(corpus, recipe)
    for rows, seed in product(sizes, seeds):
        train = training_rows(corpus.train, rows, seed, recipe.data.source)
        for index, decision in enumerate(recipe.task.decisions):
            if not len(train.of_decision(index)):
                raise DataError(
                    f"rows: among the {rows:,} training rows of seed {seed} none has an answer to {decision.title}; "
                    "raise rows, or take the question out of the recipe"
                )
    for name, question in recipe.task.questions.items():
        columns = [
            evaluated.of_decision(index).labels
            for index, decision in enumerate(recipe.task.decisions)
            if decision.question == name
        ]
        # Without yes there is no F1 of yes, and without a second level no agreement beyond chance.
        needed = {"choice": 1, "score": 2}.get(question.type)
        measurable = len(set(columns[0])) >= needed if needed else any(1 in labels for labels in columns)
        if not (all(columns) and measurable):
            raise DataError(
                f"evaluate.rows: in the {len(evaluated):,} evaluated rows of {evaluated.name}, answers to {name} are "
                f"missing or all alike, so that its {headline(question.type).title} is not defined; evaluate more "
                "rows, or take the question out of the recipe"
            )


def draw_examples(train: Split, shots: int, labels: tuple[str, ...], title: str = "") -> list[tuple[str, int]]:
    """Return the first ``shots`` rows of each label, as text and label index, the labels taking turns.

    Raises:
        DataError: a label has fewer rows; the message names the decision by ``title``, such as "tags: refund: ".
    """
    rows_by_label = [[row for row, label in enumerate(train.labels) if label == index] for index in range(len(labels))]
    for label, rows in zip(labels, rows_by_label, strict=True):
        if len(rows) < shots:
            raise DataError(
                f"shots: {title}{shots} examples of each label asked for, {label} has {len(rows)} among the first "
                f"{len(train):,} rows; lower shots or raise the smallest of rows"
            )
    return [(train.texts[rows[shot]], index) for shot in range(shots) for index, rows in enumerate(rows_by_label)]
