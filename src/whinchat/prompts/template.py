"""From a text to token ids, through the model's own chat template.

A prompt ends where the model starts to speak. An answer is what the template puts after it for a label's word, up to
and including the end of turn. Only answers are ever supervised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from whinchat.errors import PromptError
from whinchat.prompts.cleaning import clean
from whinchat.recipe.schema import TEXT_SLOT, Task

# Stands in for a text while the answers are worked out; any ordinary word would do.
_PROBE = "word"


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, and how its text was changed to make it.

    Attributes:
        ids: token ids, up to the place where the model's answer starts.
        truncated_tokens: tokens cut from the end of the text to meet the length limit.
        escaped_control_tokens: control tokens spelled out in the text, such as ``<|im_end|>``. Each is broken up by a
            space, so that a text cannot end its own turn.
    """

    ids: tuple[int, ...]
    truncated_tokens: int = 0
    escaped_control_tokens: int = 0


class PromptTemplate:
    """Builds prompts and answers for one task and one tokenizer.

    With ``examples``, texts and their labels' indices, every prompt shows these first, each as a turn of the user and
    the answer to it; their tokens come on top of ``max_prompt_tokens``, so that no text is shortened for them.

    Attributes:
        answers: token ids of each label's answer, in label order, without the end of turn.
        end_of_turn: the token id that closes the answer.
        system_role: False where the chat template has no system role; the instruction then opens the user turn.
        adds_bos: the tokenizer puts a BOS before a text by itself.

    Raises:
        PromptError: no chat template, no end of turn, an answer without tokens, two labels with the same tokens, or an
            instruction that alone exceeds ``max_prompt_tokens``.
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
    ) -> None:
        if not tokenizer.chat_template:
            raise PromptError(
                f"{model}: its tokenizer has no chat template, so there is no prompt to train on; "
                "choose an instruct or chat model, or add chat_template.jinja to its folder"
            )
        self.tokenizer = tokenizer
        self.task = task
        self._model = model
        self._examples: list[tuple[str, str]] = []
        self.end_ids = frozenset(end_ids) | ({tokenizer.eos_token_id} - {None})
        self.adds_bos = self._tokenizer_adds_bos()
        self.system_role = self._has_system_role()
        self._control = _control_pattern(tokenizer, self.end_ids.union(self._encode_raw(self.render(_PROBE))))
        self.max_prompt_tokens = max_prompt_tokens
        self._show(examples)
        endings = [self._answer(word) for word in task.answer_words]
        self.answers: tuple[tuple[int, ...], ...] = tuple(answer for answer, _ in endings)
        self.end_of_turn: int = endings[0][1]
        self._check_answers()

    def encode(self, texts: Sequence[str]) -> list[Prompt]:
        """Prompts of ``texts``, in their order; one prompt for each text, whatever the text holds."""
        safe = [self._escape(clean(text, self.task.clean)) for text in texts]
        rendered = [self.render(text) for text, _ in safe]
        batch = self.tokenizer(rendered, add_special_tokens=False)["input_ids"] if rendered else []
        return [
            self._truncate(text, tuple(self._with_bos(ids)), escaped)
            for (text, escaped), ids in zip(safe, batch, strict=True)
        ]

    def render(self, text: str, answer: str | None = None) -> str:
        """The chat as a string: up to the model's turn, or with the model's ``answer`` in it."""
        messages = self.messages(text)
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return self._apply(messages, add_generation_prompt=answer is None)

    def messages(self, text: str) -> list[dict[str, str]]:
        """System turn, examples and user turn for ``text``, in the form that chat templates take."""
        turns = []
        for shown, word in self._examples:
            turns += [_turn("user", self._user(shown)), _turn("assistant", word)]
        turns.append(_turn("user", self._user(text)))
        if self.system_role:
            return [_turn("system", self.task.instruction), *turns]
        return [_turn("user", f"{self.task.instruction}\n\n{turns[0]['content']}"), *turns[1:]]

    def _user(self, text: str) -> str:
        return self.task.user_template.replace(TEXT_SLOT, text)

    def _show(self, examples: Sequence[tuple[str, int]]) -> None:
        bare = len(self._encode_raw(self.render("")))
        words = self.task.answer_words
        self._examples = [(self._escape(clean(text, self.task.clean))[0], words[label]) for text, label in examples]
        self.max_prompt_tokens += len(self._encode_raw(self.render(""))) - bare

    def _apply(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _encode_raw(self, rendered: str) -> tuple[int, ...]:
        return tuple(self._with_bos(self.tokenizer(rendered, add_special_tokens=False)["input_ids"]))

    def _tokenizer_adds_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer(_PROBE)["input_ids"]
        return bos is not None and bool(ids) and ids[0] == bos

    def _with_bos(self, ids: list[int]) -> list[int]:
        # Some chat templates write the BOS themselves, others leave it to the tokenizer: either way, exactly one.
        bos = self.tokenizer.bos_token_id
        return [bos, *ids] if self.adds_bos and ids[:1] != [bos] else ids

    def _has_system_role(self) -> bool:

        marker = "whinchat-system-probe"
        try:
            rendered = self._apply(
                [{"role": "system", "content": marker}, {"role": "user", "content": _PROBE}],
                add_generation_prompt=True,
            )
        except TemplateError:
            return False
        return marker in rendered

    def _answer(self, word: str) -> tuple[tuple[int, ...], int]:
        """Ids of ``word`` as an answer, and the end of turn that follows it."""
        prompt_text, full_text = self.render(_PROBE), self.render(_PROBE, answer=word)
        if not full_text.startswith(prompt_text):
            raise PromptError(
                f"{self._model}: its chat template writes another prompt once the answer is known, "
                "so training would not match use; give the tokenizer a template with a plain generation prompt"
            )
        prompt, full = self._encode_raw(prompt_text), self._encode_raw(full_text)
        tail = full[len(prompt) :]
        if full[: len(prompt)] != prompt:
            # A token spans the border. In use the prompt is tokenized alone, so the answer is, too.
            tail = tuple(self.tokenizer(full_text[len(prompt_text) :], add_special_tokens=False)["input_ids"])
        end = next((at for at, token in enumerate(tail) if token in self.end_ids), None)
        if end is not None:
            return tail[:end], tail[end]
        if self.tokenizer.eos_token_id is None:
            raise PromptError(f"{self._model}: neither template nor tokenizer has an end of turn; set eos_token")
        return tail, self.tokenizer.eos_token_id

    def _check_answers(self) -> None:
        for label, word, answer in zip(self.task.labels, self.task.answer_words, self.answers, strict=True):
            if not answer:
                raise PromptError(
                    f"label {label}: answer {word!r} gives no tokens, so it would train on nothing; "
                    "check task.answers and the model's chat template"
                )
        if len(set(self.answers)) < len(self.answers):
            raise PromptError("two labels have the same answer tokens; give each its own word in task.answers")
        frame = self._encode_raw(self.render(""))
        if len(frame) >= self.max_prompt_tokens:
            raise PromptError(
                f"backbone.max_prompt_tokens: instruction and chat markers alone take {len(frame)} tokens, "
                f"the limit is {self.max_prompt_tokens}; raise it or shorten task.instruction"
            )

    def _escape(self, text: str) -> tuple[str, int]:
        # "<|im_end|>" inside a text would be read as the real control token; "< |im_end|>" is ordinary text.
        return self._control.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text) if self._control else (text, 0)

    def _truncate(self, text: str, ids: tuple[int, ...], escaped: int) -> Prompt:
        cut = 0
        while len(ids) > self.max_prompt_tokens:
            spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            keep = max(0, len(spans) - (len(ids) - self.max_prompt_tokens))
            cut += len(spans) - keep
            text = text[: spans[keep][0]]
            ids = self._encode_raw(self.render(text))
        return Prompt(ids, truncated_tokens=cut, escaped_control_tokens=escaped)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _control_pattern(tokenizer: Any, marks: frozenset[int]) -> re.Pattern[str] | None:
    """Matches control tokens spelled out in a text; one-character ones cannot be broken up and are left alone.

    ``marks``: ids that structure a chat. Some tokenizers add theirs without calling them special.
    """
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {
        str(added.content)
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special or (token in marks and added.content.strip())
    }
    longest_first = sorted((token for token in special if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
