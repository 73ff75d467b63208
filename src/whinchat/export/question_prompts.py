"""The file ``prompts.json``: how a program without whinchat asks the questions of an exported classifier.

N: texts. K: labels of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from whinchat.data.cleaning import clean
from whinchat.errors import ModelError
from whinchat.evaluation.calibrator import Calibrator, scale_log_probs
from whinchat.inference.predictor import Predictions
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.models.forward import Engine
from whinchat.prompts.token_ids import token_ids
from whinchat.recipe.question import Decision, QuestionType
from whinchat.recipe.task import Cleaning
from whinchat.storage.json_records import read_json_record, write_json_record

PROMPTS_FILE = "prompts.json"
_TEXT = "whinchat-text-slot"


@dataclass(frozen=True)
class DecisionPrompt:
    """How to ask for one decision, and how to turn the scores of its labels into probabilities.

    Attributes:
        question: name of the question.
        option: the option of a multi question that applies or not; None for the other types.
        type: type of the question.
        before, after: what stands before and after the text in the user's message.
        labels: names between which the model decides, (K,).
        words: the word with which the model answers for each label, (K,).
        answers: token ids of the answer for each label, (K,). The score of a label is the sum of the log-probabilities
            of its tokens, the first of them behind the prompt.
        temperature, offsets: the probabilities are ``softmax(scores / temperature + offsets)``; ``offsets`` is (K,).
        threshold: highest probability below which an answer is unsure; None where none is.
    """

    question: str
    option: str | None
    type: QuestionType
    before: str
    after: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]
    temperature: float
    offsets: tuple[float, ...]
    threshold: float | None

    @classmethod
    def of(cls, question_type: QuestionType, decision: Decision, engine: Engine, calibrator: Calibrator) -> Self:
        """Return how a classifier asks for ``decision``."""
        before, after = engine.template.messages(_TEXT)[-1]["content"].split(_TEXT)
        return cls(
            decision.question,
            decision.option,
            question_type,
            before,
            after,
            decision.labels,
            engine.template.task.answer_words,
            _answer_tokens(engine),
            calibrator.temperature,
            tuple(calibrator.offsets.tolist()),
            calibrator.threshold,
        )

    def message(self, text: str) -> str:
        """Return the user's message for ``text``."""
        return f"{self.before}{text}{self.after}"

    def predictions(self, scores: NDArray[np.floating[Any]]) -> Predictions:
        """Return the predictions for the scores of N texts, (N, K)."""
        probabilities = np.exp(scale_log_probs(scores, self.temperature, self.offsets))
        unsure = probabilities.max(axis=1) < (0.0 if self.threshold is None else self.threshold)
        return Predictions(self.labels, probabilities, unsure)


@dataclass(frozen=True)
class QuestionPrompts:
    """The content of ``prompts.json``.

    Attributes:
        system: the system message; None for a chat template without a system role, where it is part of ``before``.
        bos: token id to put before those of the chat, where the chat template does not write the token itself; None for
            none. llama.cpp puts it there by itself.
        clean: steps of ``task.clean`` to do to every text first, in this order.
        max_prompt_tokens: longest prompt; the classifier cuts a longer text at its end.
        decisions: the questions in the order of the recipe; a multi question has one for each option.
    """

    system: str | None
    bos: int | None
    clean: tuple[Cleaning, ...]
    max_prompt_tokens: int
    decisions: tuple[DecisionPrompt, ...]

    @classmethod
    def of(cls, predictor: QuestionPredictor) -> Self:
        """Return how the classifier of ``predictor`` asks its questions."""
        task, template = predictor.recipe.task, predictor.engines[0].template
        written = token_ids(template.tokenizer, [template.render(_TEXT)])[0]
        (asked,) = template.encode([_TEXT])
        return cls(
            task.instruction if template.system_role else None,
            asked.ids[0] if len(asked.ids) > len(written) else None,
            task.clean,
            template.max_prompt_tokens,
            tuple(
                DecisionPrompt.of(task.questions[decision.question].type, decision, engine, calibrator)
                for decision, engine, calibrator in zip(
                    task.decisions, predictor.engines, predictor.calibrators, strict=True
                )
            ),
        )

    def save(self, folder: Path) -> None:
        """Write the file to ``folder``."""
        write_json_record(folder / PROMPTS_FILE, self)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the file that ``save`` wrote; raises RunError as ``read_json_record`` does."""
        return read_json_record(folder / PROMPTS_FILE, cls, "export the classifier again")

    def token_ids(self, decision: DecisionPrompt, text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """Return the prompt of a cleaned text, made by transformers alone."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        messages = [*system, {"role": "user", "content": decision.message(text)}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return (*([] if self.bos is None else [self.bos]), *ids)

    def require_alike(
        self, engines: Sequence[Engine], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Check that prompts and answers are those of ``engines``, one for each decision.

        Texts that are too long, or spell out control tokens or role markers, are left out: whinchat changes them.

        Args:
            engines: the engines of the classifier.
            texts: the texts whose prompts are compared.
            tokenizer: a tokenizer with the chat template of the prompts.

        Raises:
            ModelError: a prompt or an answer is another.
        """
        for decision, engine in zip(self.decisions, engines, strict=True):
            if decision.answers != _answer_tokens(engine):
                raise ModelError(f"{PROMPTS_FILE}: damaged, for the answers to {decision.question} are others")
            for text, prompt in zip(texts, engine.template.encode(texts), strict=True):
                if prompt.truncated_tokens or prompt.escaped_control_tokens:
                    continue
                if self.token_ids(decision, clean(text, self.clean), tokenizer) != prompt.ids:
                    raise ModelError(
                        f"{PROMPTS_FILE}: transformers makes another prompt of this model's chat template than "
                        f"whinchat, as for the text {shorten(text, 60)!r}; export one decision with --question instead"
                    )


def _answer_tokens(engine: Engine) -> tuple[tuple[int, ...], ...]:
    """Return the tokens whose log-probabilities make the score of each label."""
    return tuple(tuple(token for _, token in path) for path in engine.tree.paths)
