"""How a chat template writes a question and its answer, completed so that a prompt ends where the answer starts.

A chat template may write more before an answer than its generation prompt shows: an empty thought, the name of a
channel. Whatever it writes before every answer becomes part of its generation prompt, in the template's own source. So
transformers, the exports and whinchat write the same prompt.
"""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

from whinchat.errors import PromptError
from whinchat.prompts.chat_template import ChatTemplate, Messages, turn
from whinchat.prompts.fixed_date import fix_date, fixed_date, without_fixed_date

_INSTRUCTION = "whinchat-instruction"
_TEXTS = ("word", "Other words, 12")
# Two answers that share neither their first nor their last character, in upper or lower case.
_ANSWERS = ("Yes", "no")
_TAG = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")
# All of a tag but its name, as in </think>, <channel|> and <|END_THINKING|>.
_TAG_NAME = re.compile(r"(?i)\W|(start|end|begin)_")
# Two days that differ in year, month, day and day of the week.
_TWO_DAYS = (date(2001, 2, 3), date(2036, 11, 28))


@dataclass(frozen=True)
class AnswerTurn:
    """What a chat template writes around an answer.

    Attributes:
        opening: what stands between the template's own generation prompt and an answer, without blanks at the end:
            tokenizers make a blank and the word after it one token, so the blank belongs to the answer.
        closing: what the template writes after the answer; empty where it leaves the end of the turn to the model.
        keeps_prompt: whether the generation prompt stays. One that no answered chat contains, because it opens a
            thought, is left out; ``opening`` then stands between the last message and an answer.
        shown_as: what an answered chat shows between the last message and an answer in the place of a generation prompt
            that contains an empty thought, as Gemma 4's does; None where the chat shows the generation prompt itself.
    """

    opening: str
    closing: str
    keeps_prompt: bool = True
    shown_as: str | None = None

    @classmethod
    def find(cls, template: ChatTemplate, messages: Callable[[str], Messages]) -> "AnswerTurn | None":
        """Render answers with ``template`` and compare them.

        Args:
            template: the chat template.
            messages: returns the messages up to and with the user's turn, for a text.

        Returns:
            The turn; None where what stands before an answer depends on the answer or the text.

        Raises:
            PromptError: the template refuses the chat.
        """
        turns = {cls._of_text(template, messages(text)) for text in _TEXTS}
        return turns.pop() if len(turns) == 1 else None

    @classmethod
    def _of_text(cls, template: ChatTemplate, asked: Messages) -> "AnswerTurn | None":
        first, second = (template.render([*asked, turn("assistant", word)], prompt=False) for word in _ANSWERS)
        if first == second:
            return cls("", "")  # the template writes no answers, so there is nothing to compare
        before = _common_prefix(first, second)
        closing = _common_prefix(first[len(before) :][::-1], second[len(before) :][::-1])[::-1]
        prompt, chat = (template.render(asked, prompt=asks) for asks in (True, False))
        if before.startswith(prompt):
            return cls(before[len(prompt) :].rstrip(" "), closing)
        if not before.startswith(chat):
            return None
        if prompt.startswith(before) and _is_closed_thought(prompt[len(before) :]):
            return cls("", closing, shown_as=before[len(chat) :])
        return cls(before[len(chat) :].rstrip(" "), closing, keeps_prompt=False)

    def complete(self, template: ChatTemplate) -> ChatTemplate:
        """Return ``template`` with ``opening`` at the end of its generation prompt."""
        if not self.opening and self.keeps_prompt:
            return template
        # Jinja itself leaves out one line break at the end of a template.
        source, text = re.sub(r"(\r\n|\r|\n)\Z", "", template.source), json.dumps(self.opening, ensure_ascii=False)
        if self.keeps_prompt:
            return replace(template, source=f"{source}{{{{ {text} if add_generation_prompt else '' }}}}")
        own = "{% set asks_for_answer = add_generation_prompt %}{% set add_generation_prompt = false %}\n"
        return replace(template, source=f"{own}{source}{{{{ {text} if asks_for_answer else '' }}}}")

    def write_answer(self, template: ChatTemplate, asked: Messages, word: str) -> str:
        """Return what the completed ``template`` writes after the prompt of ``asked`` if the answer is ``word``.

        Raises:
            PromptError: it writes something else around this word than around other words.
        """
        start = template.render(asked, prompt=self.shown_as is None) + (self.shown_as or "")
        answered = template.render([*asked, turn("assistant", word)], prompt=False)
        if not answered.startswith(start) or not answered[len(start) :].endswith(self.closing):
            raise PromptError(
                f"{template.model}: its chat template writes another chat around the answer {word!r} than around other "
                "words; choose another word in task.answers"
            )
        return answered[len(start) :]


@dataclass(frozen=True)
class ChatFormat:
    """A chat template made ready for one classifier, and how to use it.

    Attributes:
        template: the template. It writes ``day``, and its generation prompt contains all that stands before an answer.
        turn: what the template writes around an answer.
        system_role: whether it takes the instruction as a system turn, and keeps that turn once there is an answer.
        day: the date that prompts state; None where they state none.
    """

    template: ChatTemplate
    turn: AnswerTurn
    system_role: bool
    day: date | None

    @classmethod
    def find(cls, template: ChatTemplate, day: date | None) -> "ChatFormat":
        """Make ``template`` ready.

        Args:
            template: the chat template of a model, or one that was made ready earlier.
            day: the date that prompts shall state; None for the date that was fixed earlier, else today.

        Raises:
            PromptError: the template refuses a plain question, or there is no prompt that stands before every answer.
        """
        bare, fixed = without_fixed_date(template.source), fixed_date(template.source)
        day = day or fixed or date.today()
        if day != fixed and "strftime_now" in replace(template, source=bare).reads():
            template = replace(template, source=fix_date(bare, day))
        system_role, answer_turn = _find_turn(template)
        template = answer_turn.complete(template)
        bare = without_fixed_date(template.source)
        if bare == template.source:
            return cls(template, answer_turn, system_role, None)
        # A template may ask for the date only where there is no instruction, or where there are tools.
        chats = [replace(template, source=fix_date(bare, other)) for other in _TWO_DAYS]
        one, other = (chat.render(_asked(_TEXTS[0], system_role=system_role), prompt=True) for chat in chats)
        if one == other:
            return cls(replace(template, source=bare), answer_turn, system_role, None)
        return cls(template, answer_turn, system_role, day)


def with_instruction(instruction: str, turns: Messages, *, system_role: bool) -> Messages:
    """Return ``turns`` with the instruction as a system turn before them, or at the beginning of the first of them."""
    if system_role:
        return [turn("system", instruction), *turns]
    return [turn("user", f"{instruction}\n\n{turns[0]['content']}"), *turns[1:]]


def _asked(text: str, *, system_role: bool) -> Messages:
    return with_instruction(_INSTRUCTION, [turn("user", text)], system_role=system_role)


def _find_turn(template: ChatTemplate) -> tuple[bool, AnswerTurn]:
    """Return whether the instruction can be a system turn, and what ``template`` writes around an answer."""
    fault = PromptError(
        f"{template.model}: its chat template writes another prompt once the answer is known, so training would not "
        "match use; give the tokenizer a template with a plain generation prompt"
    )
    for system_role in (True, False):
        try:
            if system_role and not _keeps_system_turn(template):
                continue
            found = AnswerTurn.find(template, functools.partial(_asked, system_role=system_role))
        except PromptError as error:
            fault = error
            continue
        if found:
            return system_role, found
    raise fault


def _keeps_system_turn(template: ChatTemplate) -> bool:
    """Return whether a system turn is written, with and without an answer; some templates move it or leave it out."""
    asked = _asked(_TEXTS[0], system_role=True)
    chats = (template.render(asked, prompt=True), template.render([*asked, turn("assistant", "Yes")], prompt=False))
    return all(_INSTRUCTION in chat for chat in chats)


def _is_closed_thought(text: str) -> bool:
    """Return whether ``text`` is a thought that ends, such as ``<think></think>``: tags of one name around nothing."""
    tags = _TAG.findall(text)
    names = {_TAG_NAME.sub("", tag).lower() for tag in tags}
    return len(tags) == 2 and tags[0] != tags[1] and len(names) == 1 and text.rstrip().endswith(tags[1])


def _common_prefix(first: str, second: str) -> str:
    pairs = enumerate(zip(first, second, strict=False))
    length = next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))
    return first[:length]
