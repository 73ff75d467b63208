"""The prompt as a string around instruction and text, and Ollama's ``Modelfile`` that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from whinchat.errors import ModelError
from whinchat.export.gguf_writer import TokenizerFamily
from whinchat.prompts.template import PromptTemplate

_SYSTEM, _TEXT = "whinchat-system-slot", "whinchat-text-slot"


@dataclass(frozen=True)
class PromptFrame:
    """What the chat template puts around instruction and text, where llama.cpp adds the BOS itself.

    ``chat_template``: the model's own, made to begin as ``before`` does.
    """

    before: str
    between: str
    after: str
    chat_template: str

    def prompt(self, instruction: str, text: str) -> str:
        """The prompt for ``text``."""
        return f"{self.before}{instruction}{self.between}{text}{self.after}"


def frame_of(template: PromptTemplate, family: TokenizerFamily) -> PromptFrame:
    """The frame of ``template``; without a system role, the instruction stands in the user's turn.

    Raises:
        ModelError: the chat template does more than to put instruction and text in their places, once each.
    """
    messages = template.messages(_TEXT)
    messages[0]["content"] = messages[0]["content"].replace(template.task.instruction, _SYSTEM, 1)
    tokenizer = template.tokenizer
    rendered: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if (rendered.count(_SYSTEM), rendered.count(_TEXT)) != (1, 1) or rendered.index(_SYSTEM) > rendered.index(_TEXT):
        raise ModelError(
            "gguf: this model's chat template does more than to put instruction and text in their places, so no "
            "Modelfile can hold it; export merged instead"
        )
    before, rest = rendered.split(_SYSTEM)
    between, after = rest.split(_TEXT)
    chat_template = tokenizer.get_chat_template()
    if family.blank == "first":
        # llama.cpp puts a blank before every piece between control tokens or before none, so this one is spelled out.
        first = tokenizer(rendered, add_special_tokens=False)["input_ids"][0]
        if tokenizer.convert_ids_to_tokens(first).startswith("▁") and not rendered.startswith(" "):
            before, chat_template = f" {before}", "{{ ' ' }}" + chat_template
    if template.adds_bos:
        before = before.removeprefix(tokenizer.bos_token)
    return PromptFrame(before, between, after, chat_template)


def require_quotable(instruction: str) -> None:
    """Check that a Modelfile can hold ``instruction``.

    Raises:
        ModelError: it has the quotes that end it there.
    """
    if '"""' in instruction:
        raise ModelError(
            'gguf: task.instruction has three double quotes (""") in a row, which end it in a Modelfile; '
            "train with another instruction, or export merged"
        )


def modelfile(template: PromptTemplate, frame: PromptFrame, name: str, weights: str) -> str:
    """What ``ollama create NAME -f Modelfile`` reads.

    Args:
        template: the prompts.
        frame: their strings.
        name: to call the model by.
        weights: name of the GGUF file beside it.
    """
    stop = template.tokenizer.convert_ids_to_tokens(template.end_of_turn)
    before, between, after, end = map(_literal, (frame.before, frame.between, frame.after, stop))
    lines = [
        f"# ollama create {name} -f Modelfile",
        f"FROM ./{weights}",
        f'TEMPLATE """{before}{{{{ .System }}}}{between}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{end}"""',
        f'SYSTEM """{template.task.instruction}"""',
        f'PARAMETER stop "{stop}"',
        "PARAMETER temperature 0",
        # The longest answer and the end of turn.
        f"PARAMETER num_predict {max(map(len, template.answers)) + 1}",
    ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """``text`` as Go's templates and a quoted value of a Modelfile leave it."""
    return text.replace("{", '{{ "{" }}').replace('"""', '{{ "\\"\\"\\"" }}')
