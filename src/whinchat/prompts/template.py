"""Turn a text into token ids through the model's own chat template.

A prompt ends where the answer starts. An answer is what the template writes there for the word of a label, followed by
the end of turn. Training supervises the tokens of answers only.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from whinchat.data.cleaning import clean
from whinchat.errors import PromptError
from whinchat.prompts.chat_format import ChatFormat, with_instruction
from whinchat.prompts.chat_template import ChatTemplate, Messages, turn
from whinchat.prompts.prompt_parts import PromptParts
from whinchat.prompts.text_faults import holds_marks, named_text
from whinchat.prompts.text_guard import TextGuard, control_tokens
from whinchat.prompts.token_ids import token_ids
from whinchat.recipe.question import TEXT_SLOT
from whinchat.recipe.task import Task

# Any ordinary word: the text of the prompts from which the answers are computed.
_PROBE = "word"
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_ROLES = ("system", "user", "assistant", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, and how its text was changed to make it.

    Attributes:
        ids: token ids, up to the place where the model's answer starts, or of the whole conversation.
        truncated_tokens: tokens cut from the end of the text to meet the length limit.
        escaped_control_tokens: control tokens and role markers spelled out in the text, such as ``<|im_end|>``. Each is
            broken up by a space, so that a text cannot end its own turn or speak for the model.
    """

    ids: tuple[int, ...]
    truncated_tokens: int = 0
    escaped_control_tokens: int = 0


class PromptTemplate:
    """Builds prompts and answers for one task and one tokenizer.

    Args:
        tokenizer: the model's tokenizer, with a chat template.
        task: instruction, user template, labels and their answer words.
        end_ids: token ids that end a turn, besides the tokenizer's own.
        max_prompt_tokens: longest prompt; a longer text is cut at its end.
        model: name of the model in error messages.
        examples: texts and label indices. Every prompt shows them before its own text, each as a user turn and the
            answer to it. Their tokens are added to ``max_prompt_tokens``, so that no text is cut for them.
        chat_template: the chat template that a trained classifier was saved with. None makes one of the tokenizer's
            own: thinking is turned off where the template knows a variable for that.

    Attributes:
        chat: the chat template of all prompts. It writes ``task.date``, and its generation prompt contains all that
            stands before an answer.
        task: the task; ``task.date`` is the date that the prompts state, or None where they state none.
        answers: token ids of each label's answer, in label order, without the end of turn.
        end_of_turn: the token id that closes an answer.
        end_ids: all token ids that end a turn.
        system_role: whether the instruction is a system turn; otherwise it opens the first user turn, as for a chat
            template without a system role, or with one that it leaves out once there is an answer.
        adds_bos: whether the tokenizer adds a BOS token before a text.
        guard: breaks up the control tokens and role markers that a text spells out.

    Raises:
        PromptError: there is no chat template or no end of turn, an answer has no tokens, two labels have the same
            tokens, or the instruction alone exceeds ``max_prompt_tokens``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        *,
        end_ids: Iterable[int],
        max_prompt_tokens: int,
        model: str = "the model",
        examples: Sequence[tuple[str, int]] = (),
        chat_template: str | None = None,
    ) -> None:
        self.tokenizer, self.max_prompt_tokens = tokenizer, max_prompt_tokens
        self._model = model
        self._examples: list[tuple[str, str]] = []
        self.end_ids = frozenset(end_ids) | ({tokenizer.eos_token_id} - {None})
        bos = tokenizer.bos_token_id
        self.adds_bos = bos is not None and tokenizer(_PROBE)["input_ids"][:1] == [bos]
        chat = ChatTemplate.of(tokenizer, model)
        chat = chat if chat_template is None else replace(chat, source=chat_template)
        chat.check()
        chat = chat.without_thinking() if chat_template is None else chat
        format = ChatFormat.find(chat, task.date)
        self.chat, self.system_role, self._turn = format.template, format.system_role, format.turn
        self.task = task.model_copy(update={"date": format.day})
        self.guard = self._make_guard()
        self._structure: list[str] | None = None
        self._frame_controls: list[int] = []
        if not self.fault(_PROBE):
            self._set_frame()
        self._add_examples(examples)
        self.end_of_turn, self._text_end = self._find_end()
        self.end_ids |= {self.end_of_turn}
        self.answers: tuple[tuple[int, ...], ...] = tuple(map(self._answer, task.answer_words))
        self._check_answers()

    def for_task(self, task: Task, max_prompt_tokens: int) -> "PromptTemplate":
        """Return the template of another task for the same model, without examples.

        It equals a new one with the chat template of this one, and is cheap: what the chat template does is known.

        Args:
            task: the other task. Its prompts state the date of this template.
            max_prompt_tokens: longest prompt.

        Raises:
            PromptError: as for a new template.
        """
        made = copy.copy(self)
        made.task = task.model_copy(update={"date": self.task.date})
        made.max_prompt_tokens, made._examples, made._structure, made._frame_controls = max_prompt_tokens, [], None, []
        if not made.fault(_PROBE):
            made._set_frame()
        words = task.answer_words
        # What follows a prompt nearly always depends on its end alone, and the prompts of this template may be shorter.
        is_alike = all(self._answer(word) == made._answer(word) for word in (words[0], words[-1]))
        made.answers = tuple(map(self._answer if is_alike else made._answer, words))
        made._check_answers()
        return made

    def frames_alike(self, other: "PromptTemplate") -> bool:
        """Return whether the control tokens and role markers around a text are those of ``other``, in their order.

        Where they are not, the task of one of the templates spells out such marks itself.
        """
        return (self._structure, self._frame_controls) == (other._structure, other._frame_controls)

    def encode(self, texts: Sequence[str], split: str = "") -> list[Prompt]:
        """Build one prompt for each text, in the order of ``texts``.

        Args:
            texts: the texts.
            split: name of the split that they are, for error messages.

        Raises:
            PromptError: the chat template refuses a text; see ``fault``.
        """
        return [prompt for _, prompt in self._fit(texts, split)]

    def encode_conversations(self, texts: Sequence[str], labels: Sequence[int], split: str = "") -> list[Prompt]:
        """Build the whole conversation of each text: prompt, answer, end of turn and what the template writes after it.

        The token ids are those that ``trl.SFTTrainer`` trains on: the rendered conversation tokenized at once, with a
        BOS token only where the template writes one. A text is cut where ``encode`` cuts it.

        Args:
            texts: the texts.
            labels: the label index of each text.
            split: as for ``encode``.

        Raises:
            PromptError: as ``encode`` does.
        """
        fitted, words = self._fit(texts, split), self.task.answer_words
        rendered = [self.render(text, words[label]) for (text, _), label in zip(fitted, labels, strict=True)]
        batch = token_ids(self.tokenizer, rendered)
        return [replace(prompt, ids=tuple(ids)) for (_, prompt), ids in zip(fitted, batch, strict=True)]

    def _fit(self, texts: Sequence[str], split: str) -> list[tuple[str, Prompt]]:
        """Return each text, cleaned, escaped and cut to the length limit, with its prompt."""
        safe = [self._safe(text) for text in texts]
        rendered = [self._render_row(row, text, split) for row, (text, _) in enumerate(safe)]
        try:
            batch = token_ids(self.tokenizer, rendered)
        except PromptError:
            batch = []
            for row, chat in enumerate(rendered):
                with named_text(row, safe[row][0], split):
                    batch += token_ids(self.tokenizer, [chat])
        prompts = map(self._with_bos, batch)
        fitted = [self._truncate(text, ids, escaped) for (text, escaped), ids in zip(safe, prompts, strict=True)]
        for row, (text, prompt) in enumerate(fitted):
            with named_text(row, text, split):
                self._check_controls(text, prompt.ids)
        return fitted

    def fault(self, text: str) -> str:
        """Return why there is no prompt for ``text``; an empty string where there is one, as nearly always.

        The chat template can refuse a text, the tokenizer can give up on it, and it can hold control tokens that cannot
        be broken up.
        """
        try:
            safe, _ = self._safe(text)
            self._check_controls(safe, self._encode_raw(self._render_safe(safe)))
        except PromptError as error:
            return str(error)
        return ""

    def check(self, texts: Sequence[str], split: str) -> None:
        """Raise PromptError, which names the text, if the chat template refuses one of ``texts`` of ``split``."""
        for row, text in enumerate(texts):
            self._render_row(row, self._safe(text)[0], split)

    def render(self, text: str, answer: str | None = None) -> str:
        """Return the chat as a string: up to the answer, or with ``answer`` as the model's turn.

        Raises:
            PromptError: the chat template refuses the chat, or ``text`` holds half of a surrogate pair.
        """
        if _HALF_PAIR.search(text):
            raise PromptError("it holds half of a surrogate pair, which is no character (often an emoji cut in two)")
        messages = self.messages(text)
        written = "" if answer is None else self._turn.write_answer(self.chat, messages, answer)
        return self.chat.render(messages, prompt=True) + written

    def messages(self, text: str) -> Messages:
        """Return system turn, examples and user turn for ``text``, in the form that chat templates take."""
        turns = []
        for example, word in self._examples:
            turns += [turn("user", self._user_content(example)), turn("assistant", word)]
        turns.append(turn("user", self._user_content(text)))
        return with_instruction(self.task.instruction, turns, system_role=self.system_role)

    def parts(self) -> PromptParts | None:
        """Return the strings around the text of every prompt, for exports that put a prompt together themselves.

        They hold for every text that is not blank. None where the chat template changes texts in another way than by
        stripping them.
        """
        return PromptParts.find(self.render)

    def answer_text(self, generated: str) -> str:
        """Return a generated answer up to where the chat template would end it by ordinary text, such as ``###``."""
        return generated.partition(self._text_end)[0] if self._text_end else generated

    def chat_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer with the chat template of the prompts."""
        tokenizer = copy.copy(self.tokenizer)
        tokenizer.chat_template = self.chat.source
        return tokenizer

    def _user_content(self, text: str) -> str:
        return self.task.user_template.replace(TEXT_SLOT, text)

    def _safe(self, text: str) -> tuple[str, int]:
        """Return ``text`` cleaned and with control tokens and role markers broken up, and the number of these."""
        return self.guard.escape(clean(text, self.task.clean))

    def _render_row(self, row: int, text: str, split: str) -> str:
        with named_text(row, text, split):
            return self._render_safe(text)

    def _render_safe(self, text: str) -> str:
        """Return the prompt of a text with broken up control tokens, as a string.

        Raises:
            PromptError: the chat template refuses the text, or the text still holds control tokens or role markers.
        """
        rendered = self.render(text)
        if (
            self._structure is not None
            and text.strip()
            and (marks := self.guard.structure(rendered)) != self._structure
        ):
            raise holds_marks(Counter(marks) - Counter(self._structure))
        return rendered

    def _check_controls(self, text: str, ids: Sequence[int]) -> None:
        """Raise PromptError if ``ids``, the prompt of ``text``, hold control tokens besides those of the chat."""
        if self._structure is None or not text.strip() or (found := self._controls(ids)) == self._frame_controls:
            return
        raise holds_marks(map(self.tokenizer.convert_ids_to_tokens, Counter(found) - Counter(self._frame_controls)))

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self._control_ids]

    def _make_guard(self) -> TextGuard:
        contents = [f"whinchat-content-{number}" for number in range(5)]
        system, *turns = (turn(role, content) for role, content in zip(_ROLES, contents, strict=True))
        start = [system] if self.system_role else []
        chats = [
            self.chat.render([*start, *turns[:1]], prompt=True),
            self.chat.render([*start, *turns[:2]], prompt=False),
        ]
        # Some templates take one question only; it and its answer are in the chats above.
        with suppress(PromptError):
            chats.append(self.chat.render([*start, *turns], prompt=False))
        ids = self.end_ids.union(*map(self._encode_raw, chats))
        control = control_tokens(self.tokenizer, self.chat.source, ids)
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        normalize = str if normalizer is None else normalizer.normalize_str
        return TextGuard.build(control, chats, contents, normalize)

    def _set_frame(self) -> None:
        """Note the control tokens and role markers of the chat around a text."""
        tokenizer = self.tokenizer
        control = control_tokens(tokenizer, self.chat.source, self.end_ids.union(self._encode_raw(self.render(_PROBE))))
        # Characters without a token of their own become the unknown token, which makes no structure.
        unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
        self._control_ids = {tokenizer.convert_tokens_to_ids(token) for token in control - {unknown}} | self.end_ids
        rendered = self.render(_PROBE)
        self._structure = self.guard.structure(rendered)
        self._frame_controls = self._controls(self._encode_raw(rendered))

    def _add_examples(self, examples: Sequence[tuple[str, int]]) -> None:
        if not examples:
            return
        tokens_before = self.frame_tokens()
        words = self.task.answer_words
        for text, _ in examples:
            self._render_row(0, self._safe(text)[0], "the examples")
        self._examples = [(self._safe(text)[0], words[label]) for text, label in examples]
        if self._structure is not None:
            self._set_frame()
        self.max_prompt_tokens += self.frame_tokens() - tokens_before

    def frame_tokens(self) -> int:
        """Return the number of tokens of a prompt without text, or with one word if the template refuses that."""
        return len(self._encode_raw(self.render(_PROBE if self.fault("") else "")))

    def _encode_raw(self, rendered: str) -> tuple[int, ...]:
        return self._with_bos(token_ids(self.tokenizer, [rendered])[0])

    def _with_bos(self, ids: list[int]) -> tuple[int, ...]:
        # Some chat templates write the BOS, others leave it to the tokenizer; a prompt has exactly one in both cases.
        bos = self.tokenizer.bos_token_id
        return (bos, *ids) if self.adds_bos and ids[:1] != [bos] else tuple(ids)

    def _find_end(self) -> tuple[int, str]:
        """Return the id of the token that ends the model's turn, and the ordinary text that the template ends it by.

        The template's own closing token comes first: the first control token that it writes after an answer. Without
        one, the tokenizer's end of sequence follows the answer at once.
        """
        closing = self._turn.closing
        encoded = self.tokenizer(closing, add_special_tokens=False, return_offsets_mapping=True)
        added = self.tokenizer.added_tokens_decoder
        for token, (start, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            is_control = token in added and added[token].content.strip() and token != self.tokenizer.unk_token_id
            if token in self.end_ids or is_control:
                return token, closing[:start].strip()
        if self.tokenizer.eos_token_id is None:
            raise PromptError(f"{self._model}: neither template nor tokenizer has an end of turn; set eos_token")
        return self.tokenizer.eos_token_id, closing.strip()

    def _answer(self, word: str) -> tuple[int, ...]:
        """Return the token ids of ``word`` as an answer, without the end of turn."""
        closing, prompt_text, full_text = self._turn.closing, self.render(_PROBE), self.render(_PROBE, answer=word)
        closing_ends = self.tokenizer(closing, add_special_tokens=False)["input_ids"].count(self.end_of_turn)
        if not closing_ends:
            full_text = full_text.removesuffix(closing)
        prompt, full = self._encode_raw(prompt_text), self._encode_raw(full_text)
        tail = full[len(prompt) :]
        if full[: len(prompt)] != prompt:
            # A token spans prompt and answer. In use the prompt is tokenized alone, so the answer is, too.
            tail = tuple(self.tokenizer(full_text[len(prompt_text) :], add_special_tokens=False)["input_ids"])
        ends = [index for index, token in enumerate(tail) if token == self.end_of_turn]
        return tail[: ends[-closing_ends]] if closing_ends else tail

    def _check_answers(self) -> None:
        if () in self.answers:
            empty = self.answers.index(())
            raise PromptError(
                f"label {self.task.labels[empty]}: answer {self.task.answer_words[empty]!r} gives no tokens, so it "
                "would train on nothing; check task.answers and the model's chat template"
            )
        if len(set(self.answers)) < len(self.answers):
            raise PromptError("two labels have the same answer tokens; give each its own word in task.answers")
        if (tokens := self.frame_tokens()) >= self.max_prompt_tokens:
            raise PromptError(
                f"backbone.max_prompt_tokens: instruction and chat markers alone take {tokens} tokens, "
                f"the limit is {self.max_prompt_tokens}; raise it or shorten task.instruction"
            )

    def _truncate(self, text: str, ids: tuple[int, ...], escaped: int) -> tuple[str, Prompt]:
        """Cut ``text`` at its end until its prompt ``ids`` meets the limit; the chat around the text stays whole."""
        truncated = 0
        while len(ids) > self.max_prompt_tokens:
            spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if not spans:
                raise PromptError(
                    f"{self._model}: its chat template writes a longer prompt around an empty text than "
                    f"backbone.max_prompt_tokens allows ({self.max_prompt_tokens}); raise it"
                )
            keep = max(0, len(spans) - (len(ids) - self.max_prompt_tokens))
            truncated += len(spans) - keep
            text = text[: spans[keep][0]]
            ids = self._encode_raw(self.render(text))
        return text, Prompt(ids, truncated_tokens=truncated, escaped_control_tokens=escaped)
