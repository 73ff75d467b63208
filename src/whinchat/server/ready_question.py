"""Questions that are ready to be asked, and their answers for several texts at once.

N: texts. Q: questions. K: labels of a question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.joint_scoring import MOST_NODES, score_questions
from whinchat.inference.predictor import Predictions
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import Progress

# So many tokens of questions cost about as much as an ordinary text.
_TOKENS_OF_A_TEXT = 64


@dataclass(frozen=True)
class ReadyQuestion:
    """A decision with everything that asking for it takes. Equal questions have equal answers.

    Attributes:
        prompt: the prompt around a text.
        words: the answer words, one for each option.
        names: names of the options, in the order of the probabilities.
        is_trained: whether the classifier was trained on the question and ``calibrator`` was fitted to its answers.
        engine: the model with the prompts of the question.
        prefix_engine: an engine whose prompts begin as those of many questions do, for the cache of that beginning.
        calibrator: turns scores into probabilities.
        tokens: tokens of a prompt with an empty text.
    """

    prompt: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    is_trained: bool
    engine: Engine = field(compare=False, repr=False)
    prefix_engine: Engine = field(compare=False, repr=False)
    calibrator: Calibrator = field(compare=False, repr=False)
    tokens: int = field(compare=False)

    @classmethod
    def of_engine(
        cls, engine: Engine, names: tuple[str, ...], prefix_engine: Engine, calibrator: Calibrator, *, is_trained: bool
    ) -> Self:
        """Return the question that the prompts of ``engine`` ask; the other arguments are attributes."""
        task = engine.template.task
        return cls(
            f"{task.instruction}\n{task.user_template}",
            task.answer_words,
            names,
            is_trained,
            engine,
            prefix_engine,
            calibrator,
            tokens=engine.template.frame_tokens(),
        )


def text_cost(questions: Sequence[ReadyQuestion]) -> int:
    """Return as how many ordinary texts a text counts that is asked all ``questions``; 1 without any."""
    return max(1, len(questions), sum(question.tokens for question in questions) // _TOKENS_OF_A_TEXT)


@dataclass(frozen=True)
class QuestionAnswers:
    """The answers to Q questions about N texts.

    Attributes:
        predictions: for each question the predictions for the texts.
        tokens: tokens of each prompt, (N, Q).
        truncated: tokens cut from the end of each text, (N, Q).
    """

    predictions: tuple[Predictions, ...]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.int64]

    @classmethod
    def concatenate(cls, parts: Sequence[QuestionAnswers]) -> QuestionAnswers:
        """Join one or more parts, all of the same questions, in their order."""
        predictions = zip(*(part.predictions for part in parts), strict=True)
        return cls(
            tuple(Predictions.concatenate(own) for own in predictions),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.truncated for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> QuestionAnswers:
        return QuestionAnswers(
            tuple(predictions[rows] for predictions in self.predictions), self.tokens[rows], self.truncated[rows]
        )


def ask_questions(
    questions: Sequence[ReadyQuestion],
    texts: Sequence[str],
    batch_size: int,
    prefix_of: Callable[[Engine], PrefixCache | None],
) -> QuestionAnswers:
    """Ask all questions about all texts.

    Questions with the same instruction are asked together. Those with hundreds of tokens of their own, such as a choice
    between many options, are asked alone: a branch costs more than the text that it would share.

    Args:
        questions: Q questions, all with the same model.
        texts: N texts.
        batch_size: largest number of prompts of a batch.
        prefix_of: returns the cache of the beginning that the prompts of an engine share, if any.
    """
    prompts = [question.engine.template.encode(texts) for question in questions]
    groups: dict[tuple[str, int], list[int]] = {}
    for index, question in enumerate(questions):
        alone = index if question.tokens > MOST_NODES else -1
        groups.setdefault((question.engine.template.task.instruction, alone), []).append(index)
    predictions: dict[int, Predictions] = {}
    for group in groups.values():
        scores = score_questions(
            [questions[index].engine for index in group],
            [prompts[index] for index in group],
            batch_size,
            "Answering",
            bar=Progress(),
            prefixes=[prefix_of(questions[index].prefix_engine) for index in group],
            labels_only=True,
        )
        for index, own in zip(group, scores, strict=True):
            predictions[index] = Predictions.from_scores(own, questions[index].calibrator)
    return QuestionAnswers(
        tuple(predictions[index] for index in range(len(questions))),
        np.array([[len(prompt.ids) for prompt in own] for own in prompts]).T,
        np.array([[prompt.truncated_tokens for prompt in own] for own in prompts]).T,
    )
