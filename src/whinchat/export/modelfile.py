"""The prompt as strings around instruction and text, and Ollama's ``Modelfile`` with these strings."""

from dataclasses import dataclass

from whinchat.errors import ModelError
from whinchat.export.gguf_writer import TokenizerFamily
from whinchat.prompts.template import PromptTemplate

_SYSTEM, _TEXT = "whinchat-system-slot", "whinchat-text-slot"


@dataclass(frozen=True)
class PromptFrame:
    """The strings that a chat template puts around instruction and text, without the BOS, which llama.cpp adds.

    Attributes:
        before: the string before the instruction.
        between: the string between instruction and text.
        after: the string after the text.
        chat_template: the model's own chat template, changed to begin like ``before``.
        strips: whether the chat template strips white space from a text.
        takes_instruction: whether the instruction is sent by itself; otherwise it is part of the text.
    """

    before: str
    between: str
    after: str
    chat_template: str
    strips: bool
    takes_instruction: bool = True

    def prompt(self, instruction: str, text: str) -> str:
        """Return the prompt for ``text``."""
        text = text.strip() if self.strips else text
        return f"{self.before}{instruction if self.takes_instruction else ''}{self.between}{text}{self.after}"


def prompt_frame(template: PromptTemplate, family: TokenizerFamily) -> PromptFrame:
    """Return the strings that ``template`` puts around instruction and text.

    Raises:
        ModelError: the chat template does more than to put instruction and text in their places, once each.
    """
    messages = template.messages(_TEXT)
    messages[0]["content"] = messages[0]["content"].replace(template.task.instruction, _SYSTEM, 1)
    tokenizer = template.tokenizer
    rendered = template.chat.render(messages, prompt=True)
    once = (rendered.count(_SYSTEM), rendered.count(_TEXT)) == (1, 1)
    parts = template.parts()
    if not once or rendered.index(_SYSTEM) > rendered.index(_TEXT) or parts is None:
        raise ModelError(
            "gguf: this model's chat template does more than to put instruction and text in their places, so no "
            "Modelfile can hold it; export merged instead"
        )
    before, rest = rendered.split(_SYSTEM)
    between, after = rest.split(_TEXT)
    chat_template = template.chat.source
    if family.blank == "first":
        # llama.cpp puts a blank before every piece between control tokens, or before none; here only the first has one.
        first = tokenizer(rendered, add_special_tokens=False)["input_ids"][0]
        if tokenizer.convert_ids_to_tokens(first).startswith("▁") and not rendered.startswith(" "):
            before, chat_template = f" {before}", "{{ ' ' }}" + chat_template
    if template.adds_bos:
        before = before.removeprefix(tokenizer.bos_token)
    return PromptFrame(before, between, after, chat_template, parts.strips_left or parts.strips_right)


def require_quotable(instruction: str) -> None:
    """Check that a Modelfile can hold ``instruction``.

    Raises:
        ModelError: the instruction contains three double quotes in a row, which end a string in a Modelfile.
    """
    if '"""' in instruction:
        raise ModelError(
            'gguf: task.instruction has three double quotes (""") in a row, which end it in a Modelfile; '
            "train with another instruction, or export merged"
        )


def modelfile(template: PromptTemplate, frame: PromptFrame, name: str, weights: str, longest_answer: int) -> str:
    """Return the text of a file for ``ollama create NAME -f Modelfile``.

    Args:
        template: the prompt template of the classifier.
        frame: the strings of its prompts.
        name: name of the model in Ollama.
        weights: name of the GGUF file in the same folder.
        longest_answer: number of tokens of the longest answer.
    """
    stop = template.tokenizer.convert_ids_to_tokens(template.end_of_turn)
    before, between, after, end = map(_literal, (frame.before, frame.between, frame.after, stop))
    system = "{{ .System }}" if frame.takes_instruction else ""
    lines = [
        f"# ollama create {name} -f Modelfile",
        *(["# Send texts without white space at their ends, as the model was trained."] if frame.strips else []),
        f"FROM ./{weights}",
        f'TEMPLATE """{before}{system}{between}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{end}"""',
        *([f'SYSTEM """{template.task.instruction}"""'] if frame.takes_instruction else []),
        f'PARAMETER stop "{stop}"',
        "PARAMETER temperature 0",
        f"PARAMETER num_predict {longest_answer + 1}",  # and the end of the turn
    ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """Escape ``text`` for a Go template inside a quoted value of a Modelfile."""
    return text.replace("{", '{{ "{" }}').replace('"""', '{{ "\\"\\"\\"" }}')
