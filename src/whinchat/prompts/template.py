"""Turn a text into token ids through the model's own chat template.

A prompt ends where the model's turn starts. An answer is what the template writes there for the word of a label,
followed by the end of turn. Training supervises the tokens of answers only.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from whinchat.errors import PromptError
from whinchat.prompts.cleaning import clean
from whinchat.recipe.schema import TEXT_SLOT, Recipe, Task

# Any ordinary word: the text of the prompts from which the answers are computed.
_PROBE = "word"


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, and how its text was changed to make it.

    Attributes:
        ids: token ids, up to the place where the model's answer starts, or of the whole conversation.
        truncated_tokens: tokens cut from the end of the text to meet the length limit.
        escaped_control_tokens: control tokens spelled out in the text, such as ``<|im_end|>``. Each is broken up by a
            space, so that a text cannot end its own turn.
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

    Attributes:
        answers: token ids of each label's answer, in label order, without the end of turn.
        end_of_turn: the token id that closes an answer.
        end_ids: all token ids that end a turn.
        system_role: whether the chat template has a system role; otherwise the instruction opens the user turn.
        adds_bos: whether the tokenizer adds a BOS token before a text.

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
        bos = tokenizer.bos_token_id
        self.adds_bos = bos is not None and tokenizer(_PROBE)["input_ids"][:1] == [bos]
        self.system_role = self._has_system_role()
        self._control = _control_pattern(tokenizer, self.end_ids.union(self._encode_raw(self.render(_PROBE))))
        self.max_prompt_tokens = max_prompt_tokens
        self._add_examples(examples)
        endings = [self._answer(word) for word in task.answer_words]
        self.answers: tuple[tuple[int, ...], ...] = tuple(answer for answer, _ in endings)
        self.end_of_turn: int = endings[0][1]
        self._check_answers()

    def encode(self, texts: Sequence[str]) -> list[Prompt]:
        """Build one prompt for each text, in the order of ``texts``."""
        return [prompt for _, prompt in self._fit(texts)]

    def encode_conversations(self, texts: Sequence[str], labels: Sequence[int]) -> list[Prompt]:
        """Build the whole conversation of each text: prompt, answer, end of turn and what the template writes after it.

        The token ids are those that ``trl.SFTTrainer`` trains on: the rendered conversation tokenized at once, with a
        BOS token only where the template writes one. A text is cut where ``encode`` cuts it.

        Args:
            texts: the texts.
            labels: the label index of each text.
        """
        fitted, words = self._fit(texts), self.task.answer_words
        rendered = [self.render(text, words[label]) for (text, _), label in zip(fitted, labels, strict=True)]
        batch = self.tokenizer(rendered, add_special_tokens=False)["input_ids"] if rendered else []
        return [replace(prompt, ids=tuple(ids)) for (_, prompt), ids in zip(fitted, batch, strict=True)]

    def _fit(self, texts: Sequence[str]) -> list[tuple[str, Prompt]]:
        """Return each text, cleaned, escaped and cut to the length limit, with its prompt."""
        safe = [self._escape(clean(text, self.task.clean)) for text in texts]
        rendered = [self.render(text) for text, _ in safe]
        batch = self.tokenizer(rendered, add_special_tokens=False)["input_ids"] if rendered else []
        prompts = map(self._with_bos, batch)
        return [self._truncate(text, ids, escaped) for (text, escaped), ids in zip(safe, prompts, strict=True)]

    def render(self, text: str, answer: str | None = None) -> str:
        """Return the chat as a string: up to the model's turn, or with ``answer`` as the model's turn."""
        messages = self.messages(text)
        if answer is not None:
            messages.append(_turn("assistant", answer))
        return self._apply(messages, add_generation_prompt=answer is None)

    def messages(self, text: str) -> list[dict[str, str]]:
        """Return system turn, examples and user turn for ``text``, in the form that chat templates take."""
        turns = []
        for example, word in self._examples:
            turns += [_turn("user", self._user_content(example)), _turn("assistant", word)]
        turns.append(_turn("user", self._user_content(text)))
        if self.system_role:
            return [_turn("system", self.task.instruction), *turns]
        return [_turn("user", f"{self.task.instruction}\n\n{turns[0]['content']}"), *turns[1:]]

    def _user_content(self, text: str) -> str:
        return self.task.user_template.replace(TEXT_SLOT, text)

    def _add_examples(self, examples: Sequence[tuple[str, int]]) -> None:
        tokens_before = len(self._encode_raw(self.render("")))
        words = self.task.answer_words
        self._examples = [(self._escape(clean(text, self.task.clean))[0], words[label]) for text, label in examples]
        self.max_prompt_tokens += len(self._encode_raw(self.render(""))) - tokens_before

    def _apply(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        text: str = self.tokenizer.apply_chat_template(messages, **options)
        return text

    def _encode_raw(self, rendered: str) -> tuple[int, ...]:
        return self._with_bos(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def _with_bos(self, ids: list[int]) -> tuple[int, ...]:
        # Some chat templates write the BOS, others leave it to the tokenizer; a prompt has exactly one in both cases.
        bos = self.tokenizer.bos_token_id
        return (bos, *ids) if self.adds_bos and ids[:1] != [bos] else tuple(ids)

    def _has_system_role(self) -> bool:
        marker = "whinchat-system-probe"
        try:
            return marker in self._apply([_turn("system", marker), _turn("user", _PROBE)], add_generation_prompt=True)
        except TemplateError:
            return False

    def _answer(self, word: str) -> tuple[tuple[int, ...], int]:
        """Return the token ids of ``word`` as an answer, and the id of the end of turn that follows."""
        prompt_text, full_text = self.render(_PROBE), self.render(_PROBE, answer=word)
        if not full_text.startswith(prompt_text):
            raise PromptError(
                f"{self._model}: its chat template writes another prompt once the answer is known, "
                "so training would not match use; give the tokenizer a template with a plain generation prompt"
            )
        prompt, full = self._encode_raw(prompt_text), self._encode_raw(full_text)
        tail = full[len(prompt) :]
        if full[: len(prompt)] != prompt:
            # A token spans prompt and answer. In use the prompt is tokenized alone, so the answer is, too.
            tail = tuple(self.tokenizer(full_text[len(prompt_text) :], add_special_tokens=False)["input_ids"])
        end = next((index for index, token in enumerate(tail) if token in self.end_ids), None)
        if end is not None:
            return tail[:end], tail[end]
        if self.tokenizer.eos_token_id is None:
            raise PromptError(f"{self._model}: neither template nor tokenizer has an end of turn; set eos_token")
        return tail, self.tokenizer.eos_token_id

    def _check_answers(self) -> None:
        if () in self.answers:
            empty = self.answers.index(())
            raise PromptError(
                f"label {self.task.labels[empty]}: answer {self.task.answer_words[empty]!r} gives no tokens, so it "
                "would train on nothing; check task.answers and the model's chat template"
            )
        if len(set(self.answers)) < len(self.answers):
            raise PromptError("two labels have the same answer tokens; give each its own word in task.answers")
        without_text = self._encode_raw(self.render(""))
        if len(without_text) >= self.max_prompt_tokens:
            raise PromptError(
                f"backbone.max_prompt_tokens: instruction and chat markers alone take {len(without_text)} tokens, "
                f"the limit is {self.max_prompt_tokens}; raise it or shorten task.instruction"
            )

    def _escape(self, text: str) -> tuple[str, int]:
        """Break up control tokens spelled out in ``text``, and count them."""
        # "<|im_end|>" would be tokenized as the control token; "< |im_end|>" is ordinary text.
        return self._control.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text) if self._control else (text, 0)

    def _truncate(self, text: str, ids: tuple[int, ...], escaped: int) -> tuple[str, Prompt]:
        """Cut ``text`` at its end until its prompt ``ids`` meets the limit; the chat around the text stays whole."""
        truncated = 0
        while len(ids) > self.max_prompt_tokens:
            spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            keep = max(0, len(spans) - (len(ids) - self.max_prompt_tokens))
            truncated += len(spans) - keep
            text = text[: spans[keep][0]]
            ids = self._encode_raw(self.render(text))
        return text, Prompt(ids, truncated_tokens=truncated, escaped_control_tokens=escaped)


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer with every token id that ends a turn, by the tokenizer or by the model's generation config."""

    tokenizer: PreTrainedTokenizerFast
    end_ids: frozenset[int]

    def template(self, recipe: Recipe, examples: Sequence[tuple[str, int]] = ()) -> PromptTemplate:
        """Build the prompt template of ``recipe``; arguments and errors are those of ``PromptTemplate``."""
        return PromptTemplate(
            self.tokenizer,
            recipe.task,
            end_ids=self.end_ids,
            max_prompt_tokens=recipe.backbone.max_prompt_tokens,
            model=recipe.backbone.model,
            examples=examples,
        )


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _control_pattern(tokenizer: Any, chat_ids: frozenset[int]) -> re.Pattern[str] | None:
    """Build a pattern of the tokenizer's control tokens; those of one character cannot be broken up and are left out.

    Args:
        tokenizer: the model's tokenizer.
        chat_ids: token ids that a chat contains. Some tokenizers do not mark their chat markers as special.
    """
    control = {str(token) for token in tokenizer.all_special_tokens}
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.special or (token in chat_ids and added.content.strip()):
            control.add(str(added.content))
    longest_first = sorted((token for token in control if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
