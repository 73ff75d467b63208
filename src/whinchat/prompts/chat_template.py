"""A model's chat template: a Jinja program from the model's author, which turns a chat into a string."""

from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, meta
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from whinchat.errors import PromptError
from whinchat.prompts.trial import template_fault
from whinchat.prompts.trial_script import TEMPLATE_FAULTS, GenerationTag

Messages = list[dict[str, str]]

_FAULTS = (*TEMPLATE_FAULTS, RecursionError, MemoryError)
# Variables by which templates let a model think before it answers, and the value that makes it answer at once.
_THINKING = {"enable_thinking": "false", "thinking": "false"}


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and the tokenizer whose special tokens it writes.

    Attributes:
        source: the Jinja source.
        tokenizer: the tokenizer.
        model: name of the model in error messages.
    """

    source: str
    tokenizer: PreTrainedTokenizerFast
    model: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, model: str) -> "ChatTemplate":
        """Return the template of ``tokenizer``; of several, the default one.

        Raises:
            PromptError: there is none.
        """
        try:
            source = tokenizer.get_chat_template()
        except ValueError:
            source = ""
        if not source:
            raise PromptError(
                f"{model}: its tokenizer has no chat template, so there is no prompt to train on; "
                "choose an instruct or chat model, or add chat_template.jinja to its folder"
            )
        return cls(source, tokenizer, model)

    def check(self) -> None:
        """Check, in a process of its own, that the template takes little time and memory for some chats.

        Raises:
            PromptError: it does not.
        """
        if fault := template_fault(self.source, self.tokenizer.special_tokens_map):
            raise PromptError(f"{self.model}: its chat template is not used: {fault}; choose another copy of the model")

    def render(self, messages: Messages, *, prompt: bool) -> str:
        """Return ``messages`` as a string, with the generation prompt at the end if ``prompt`` is true.

        Raises:
            PromptError: the template refuses the messages, or fails.
        """
        options: dict[str, Any] = {"chat_template": self.source, "tokenize": False, "add_generation_prompt": prompt}
        try:
            text: str = self.tokenizer.apply_chat_template(messages, **options)
        except _FAULTS as fault:
            reason = " ".join(str(fault).split()) or type(fault).__name__
            raise PromptError(f"{self.model}: its chat template refuses the chat: {reason}") from None
        return text

    def reads(self) -> set[str]:
        """Return the names that the template reads without setting them first.

        Raises:
            PromptError: the template is not valid.
        """
        try:
            tree = Environment(extensions=("jinja2.ext.loopcontrols", GenerationTag)).parse(self.source)
            return meta.find_undeclared_variables(tree)
        except TemplateError as fault:
            raise PromptError(f"{self.model}: its chat template is not valid: {fault}") from None

    def without_thinking(self) -> "ChatTemplate":
        """Return the template with each variable off that asks for a thought before the answer."""
        known = sorted(_THINKING.keys() & self.reads())
        switches = "".join(f"{{% set {name} = {_THINKING[name]} %}}" for name in known)
        return replace(self, source=f"{switches}\n{self.source}") if switches else self


def turn(role: str, content: str) -> dict[str, str]:
    """Return one message of a chat."""
    return {"role": role, "content": content}
