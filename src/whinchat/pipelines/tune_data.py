"""The rows that a search for settings uses: training and validation rows, and none of a test split."""

import logging
from dataclasses import dataclass, replace

from whinchat.data.checks import text_key
from whinchat.data.dataset import Corpus, Split
from whinchat.data.learned_texts import learned_rows, learned_warning
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError
from whinchat.recipe.schema import Recipe

# With fewer rows the log-loss of two trials differs by chance more than by their settings.
_FEW_ROWS = 100


@dataclass(frozen=True)
class TuneData:
    """The data of a search.

    Attributes:
        corpus: the training rows that every trial is trained on and the validation rows that every trial is judged on,
            without a test split.
        in_test: validation rows that were left out because their text also occurs in the test split.
        measures_validation: whether a run of the recipe is measured on the validation rows.
        has_test: whether there is a test split.
        learned: a warning where the model had learned some of the validation texts before; None where it had not.
        learned_texts: number of these texts; None where it is not known what the model has learned.
    """

    corpus: Corpus
    in_test: int
    measures_validation: bool
    has_test: bool
    learned: str | None = None
    learned_texts: int | None = None

    @property
    def validation(self) -> Split:
        """The validation rows."""
        return self.corpus.split("validation")

    def describe(self) -> str:
        """Return which rows the trials use, in a sentence."""
        left_out = f" ({self.in_test:,} whose text occurs in test are left out)" if self.in_test else ""
        return (
            f"Every trial is trained on the same {len(self.corpus.trained):,} rows and judged by its log-loss on the "
            f"same {len(self.validation):,} validation rows{left_out}; no row of a test split is used"
        )

    def warnings(self) -> list[str]:
        """Return sentences on what makes the result of the search less certain."""
        found = [self.learned] if self.learned else []
        if len(self.validation) < _FEW_ROWS:
            found.append(
                f"The trials are judged on {len(self.validation)} validation rows only, so which is best is partly "
                "chance; set a larger data.validation_rows"
            )
        if self.measures_validation:
            other_rows = "evaluate.split=test" if self.has_test else "data.test_rows"
            found.append(
                "A run of this recipe is measured on the validation rows, on which the settings are chosen, so its "
                f"figures will be slightly too good; set {other_rows} to measure it on other rows"
            )
        return found


def load_tune_data(recipe: Recipe) -> TuneData:
    """Read the rows of a search. The test split is read only to leave it out.

    Raises:
        DataError: the data cannot be read, or there is no validation split, or none whose texts are not in test.
    """
    corpus = load_corpus(recipe)
    validation = corpus.validation
    if validation is None:
        raise DataError(
            f"{recipe.data.source}: has no validation split to judge settings on; set data.validation_rows to take one "
            "from train"
        )
    measured = corpus.split(recipe.evaluate.split).name
    if corpus.test is not None:
        steps = recipe.task.clean
        known = {text_key(text, steps) for text in corpus.test.texts}
        kept = [row for row, text in enumerate(validation.texts) if text_key(text, steps) not in known]
        if not kept:
            raise DataError(
                f"{recipe.data.source}: every text of the validation split also occurs in test, so there are no rows "
                "to judge settings on; take other rows"
            )
        validation = validation.take(kept)
    left_out = len(corpus.validation or ()) - len(validation)
    own = replace(corpus, validation=validation, test=None)
    found = learned_rows(recipe.backbone.model, validation)
    return TuneData(
        corpus=own,
        in_test=left_out,
        measures_validation=measured == "validation",
        has_test=corpus.test is not None,
        learned=learned_warning(recipe.backbone.model, found),
        learned_texts=sum(map(len, found.values())) if found else None,
    )


def log_warnings(data: TuneData) -> None:
    """Log what makes the result of the search less certain."""
    for warning in data.warnings():
        logging.getLogger("whinchat").warning(warning)
