"""Make the questions of strangers ready to be asked: prompts over a loaded model, within bounds of length and cost."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from pydantic import ValidationError

from whinchat.errors import PromptError, WhinchatError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import AnyPredictor
from whinchat.models.capabilities import position_limit
from whinchat.models.forward import Engine
from whinchat.prompts.answer_tree import answer_tree
from whinchat.prompts.template import PromptTemplate
from whinchat.prompts.text_guard import TextGuard
from whinchat.recipe.field_types import name_fault, repeated_words
from whinchat.recipe.question import QUESTION_SLOT, TEXT_SLOT, YES_NO, Decision, Question
from whinchat.recipe.task import Task
from whinchat.server.ready_question import ReadyQuestion
from whinchat.server.systemone_schema import AskedQuestion, Content, NoulQuestion, ScoreQuestion

# Longest name of an option, and of a level, that is its own answer word; others are answered by a number.
_LONGEST_OPTION, _LONGEST_LEVEL = 40, 24
# Of a question without instructions.
_INSTRUCTIONS = {
    "noul": "Which of these holds for the text?",
    "choice": "Which of these fits the text best?",
    "score": "Which of these levels fits the text best?",
}
# Questions that stay ready, of all requests.
_KEPT_QUESTIONS = 256
# Characters of a question for each token that it may have: more are not even counted.
_CHARACTERS_A_TOKEN = 8
# A prompt must leave this many tokens to its text.
_LEAST_ROOM = 32


class QuestionError(WhinchatError):
    """A question that cannot be asked.

    Attributes:
        status: the status of the response.
    """

    def __init__(self, fault: str, status: int = 422) -> None:
        super().__init__(fault)
        self.status = status


def content_text(content: Content, name: str) -> str:
    """Return a string as it is, and an object or array as JSON in one line, in the order in which it was sent.

    Raises:
        QuestionError: it is nested too deeply.
    """
    if isinstance(content, str):
        return content
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        raise QuestionError(f"{name}: is nested too deeply; send less in one another") from None


@dataclass(frozen=True)
class Wording:
    """A question in plain strings.

    Attributes:
        type: noul, choice or score.
        instructions: what to decide; empty where the question says nothing.
        options: names of the options or levels, in order, with descriptions that may be empty.
    """

    type: str
    instructions: str
    options: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, question: AskedQuestion) -> Wording:
        """Return the wording of a question of a request.

        Raises:
            QuestionError: it asks for nothing, or is nested too deeply.
        """
        asked = "" if question.instructions is None else content_text(question.instructions, "instructions").strip()
        if isinstance(question, ScoreQuestion):
            levels = [content_text(level, f"criteria[{index}]") for index, level in enumerate(question.criteria)]
            return cls("score", asked, tuple((level, "") for level in levels))
        criteria: Mapping[str, Content | None]
        if isinstance(question, NoulQuestion):
            given = question.criteria
            criteria = {"no": None, "yes": None} if given is None else {"no": given.false, "yes": given.true}
        else:
            criteria = question.criteria
        described = {
            name: "" if text is None else content_text(text, f"criteria.{name}") for name, text in criteria.items()
        }
        if question.type == "noul" and not asked and not any(described.values()):
            raise QuestionError("a question needs instructions or criteria; say what to decide")
        return cls(question.type, asked, tuple(described.items()))

    @property
    def meaning(self) -> tuple[str, str, Hashable]:
        """What questions have in common that are the same; the order of options counts in a score only."""
        options = self.options if self.type == "score" else frozenset(self.options)
        return self.type, self.instructions, options

    @property
    def characters(self) -> int:
        """Number of characters of the question."""
        names = 0 if self.type == "noul" else sum(len(name) for name, _ in self.options)
        return len(self.instructions) + names + sum(len(text) for _, text in self.options)


class QuestionCompiler:
    """Makes questions ready for one classifier. Several threads may use it at a time.

    A question that the classifier was trained on is asked with the prompts and the calibration of its training; see
    ``_trained_questions``. Any other is asked with the prompts of its task if that has questions, else with those that
    a task with questions has by default.

    Args:
        predictor: the classifier.
        max_tokens: most tokens of the prompt of a question without its text.
    """

    def __init__(self, predictor: AnyPredictor, max_tokens: int) -> None:
        engine = predictor.engine if isinstance(predictor, Predictor) else predictor.engines[0]
        self._engine, self._max_tokens = engine, max_tokens
        self._trained = _trained_questions(predictor)
        self._task = _asking_task(predictor.recipe.task)
        plain = self._task.of_decision(Decision("question", None, YES_NO, "Is this so?\nAnswer yes or no.", {}))
        self._base = _engine_of(engine, engine.template.for_task(plain, sys.maxsize))
        self._positions = position_limit(engine.model) or sys.maxsize
        # A text has the same room as in the prompts of the training.
        self._room = max(_LEAST_ROOM, engine.template.max_prompt_tokens - engine.template.frame_tokens())
        self._ready: OrderedDict[Wording, ReadyQuestion] = OrderedDict()
        self._lock = Lock()

    def compile(self, question: AskedQuestion) -> ReadyQuestion:
        """Make a question ready.

        Raises:
            QuestionError: it cannot be asked: it has no words, is too long, or holds marks of the chat.
        """
        wording = Wording.of(question)
        if (trained := self._trained.get(wording.meaning)) is not None:
            return trained
        with self._lock:
            if (ready := self._ready.get(wording)) is not None:
                self._ready.move_to_end(wording)
                return ready
        if wording.characters > self._max_tokens * _CHARACTERS_A_TOKEN:
            raise QuestionError(f"has {wording.characters:,} characters; {self._too_long}", 413)
        ready = self._make(wording)
        with self._lock:
            self._ready[wording] = ready
            if len(self._ready) > _KEPT_QUESTIONS:
                self._ready.popitem(last=False)
        return ready

    @property
    def _too_long(self) -> str:
        return f"shorten instructions and descriptions, or ask with fewer options; at most {self._max_tokens:,} tokens"

    def _make(self, wording: Wording) -> ReadyQuestion:
        fault = ""
        for words in _answer_words(wording, self._base.template.guard):
            try:
                template = self._template(wording, words)
            except PromptError as error:  # such as two words of the same tokens; numbers have none of their faults
                fault = str(error)
                continue
            engine = _engine_of(self._engine, template)
            self._set_limit(engine)
            names = template.task.labels if wording.type == "noul" else tuple(name for name, _ in wording.options)
            return ReadyQuestion.of_engine(engine, names, self._base, Calibrator(words), is_trained=False)
        raise QuestionError(f"there is no prompt for this question: {fault}")

    def _template(self, wording: Wording, words: Sequence[str]) -> PromptTemplate:
        guard = self._base.template.guard
        try:
            (decision,) = _question(wording, words).decisions("question")
        except ValidationError as error:
            raise QuestionError("; ".join(fault["msg"] for fault in error.errors()[:3])) from None
        # Once more without slots: breaking up marks can bring a text into the tokenizer's normal form.
        prompt = _without_slots(guard.escape(decision.prompt)[0])
        template = self._base.template.for_task(self._task.of_decision(replace(decision, prompt=prompt)), sys.maxsize)
        if not template.frames_alike(self._base.template):
            raise QuestionError("it holds marks of the chat, which cannot be broken up; remove them")
        return template

    def _set_limit(self, engine: Engine) -> None:
        """Limit the prompts of ``engine`` to what question, text and answer may take together.

        Raises:
            QuestionError: the question leaves no room to a text.
        """
        template, tree = engine.template, engine.tree
        frame, nodes = template.frame_tokens(), max(len(tree.tokens), *map(len, template.answers))
        most = self._positions - nodes
        if frame > self._max_tokens or frame + _LEAST_ROOM > most:
            raise QuestionError(f"takes {frame:,} tokens; {self._too_long}", 413)
        template.max_prompt_tokens = min(frame + self._room, most)


def _trained_questions(predictor: AnyPredictor) -> dict[tuple[str, str, Hashable], ReadyQuestion]:
    """Return the questions that a classifier was trained on, by their meaning.

    For a task with labels, this is a choice between exactly the labels, without descriptions, whose instructions are
    those of the task or are left out. For a task with questions: each with its instructions, options and descriptions;
    a level with a description is "level: description", and an option of a multi question is a noul whose instructions
    are those of the question and, in a second line, "Does this apply: option (description)?".
    """
    task = predictor.recipe.task
    if isinstance(predictor, Predictor):
        engine, calibrator = predictor.engine, predictor.calibrator
        ready = ReadyQuestion.of_engine(engine, task.labels, engine, calibrator, is_trained=calibrator.rows > 0)
        options = tuple((label, "") for label in task.labels)
        return {Wording("choice", asked, options).meaning: ready for asked in ("", task.instruction.strip())}
    found = {}
    for decision, engine, calibrator in zip(task.decisions, predictor.engines, predictor.calibrators, strict=True):
        ready = ReadyQuestion.of_engine(engine, decision.labels, engine, calibrator, is_trained=calibrator.rows > 0)
        found[_trained_wording(task.questions[decision.question], decision).meaning] = ready
    return found


def _trained_wording(question: Question, decision: Decision) -> Wording:
    if question.type == "multi":
        return Wording("noul", decision.prompt.removesuffix(" Answer yes or no."), tuple((name, "") for name in YES_NO))
    if question.type == "score":
        levels = (": ".join(filter(None, level)) for level in question.levels.items())
        return Wording("score", question.instructions, tuple((level, "") for level in levels))
    kind = "noul" if question.type == "yes_no" else "choice"
    return Wording(
        kind, question.instructions, tuple((name, question.options.get(name, "")) for name in question.names)
    )


def _asking_task(task: Task) -> Task:
    """Return the task whose prompts ask any question: the classifier's own where it was trained on questions."""
    if task.questions:
        return task
    stand_in: Any = {"question": {"type": "yes_no", "instructions": "Is this so?"}}
    about = {"name": task.name, "clean": task.clean, "date": task.date, "language": task.language}
    return Task.model_validate({**about, "questions": stand_in})


def _engine_of(engine: Engine, template: PromptTemplate) -> Engine:
    return replace(engine, template=template, tree=answer_tree(template.answers, template.end_of_turn))


def _answer_words(wording: Wording, guard: TextGuard) -> list[tuple[str, ...]]:
    """Return the sets of answer words to try, one word for each option: the names where they can be, and numbers."""
    if wording.type == "noul":
        return [YES_NO]
    names = [name for name, _ in wording.options]
    longest = _LONGEST_LEVEL if wording.type == "score" else _LONGEST_OPTION
    width = len(str(len(names) - 1))
    numbers = tuple(f"{index:0{width}}" for index in range(len(names)))
    can_be_named = all(_is_word(name, longest, guard) for name in names)
    if not can_be_named or repeated_words((name.casefold() for name in names), "NFKC"):
        return [numbers]
    return [tuple(names), numbers]


def _is_word(name: str, longest: int, guard: TextGuard) -> bool:
    """Return whether a name can stand in a list of answers, and be an answer."""
    return (
        0 < len(name) <= longest
        and name == name.strip()
        and name_fault(name) is None
        and not any(mark in name for mark in (",", TEXT_SLOT, QUESTION_SLOT))
        and guard.escape(name) == (name, 0)
    )


def _question(wording: Wording, words: Sequence[str]) -> Question:
    """Return a question of which the options are ``words``; where these are numbers, the names are in their legend."""
    names = [name for name, _ in wording.options]
    described: dict[str, str] = {}
    if wording.type == "noul":
        described = {name: _without_slots(text) for name, text in wording.options if text}
    else:
        for word, (name, text) in zip(words, wording.options, strict=True):
            parts = (text,) if tuple(names) == tuple(words) else (name, text)
            described[word] = _without_slots(": ".join(filter(None, parts)))
    kind, options = {"noul": ("yes_no", "options"), "choice": ("choice", "options"), "score": ("score", "levels")}[
        wording.type
    ]
    asked = _without_slots(wording.instructions or _INSTRUCTIONS[wording.type])
    return Question.model_validate({"type": kind, "instructions": asked, options: described})


def _without_slots(text: str) -> str:
    """Return ``text`` in which nothing is replaced by a text or a question."""
    for slot in (TEXT_SLOT, QUESTION_SLOT):
        text = text.replace(slot, f"{slot[0]} {slot[1:]}")
    return text
