"""Chat templates in the style of well-known models, with tiny tokenizers that know their control tokens.

Each is written anew and kept short, but does what the model's own template does with a system turn, a question and an
answer: where the date stands, what a thought looks like, which texts are trimmed, and what closes a turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.helpers import tiny_models
from tests.helpers.llama_tokenizer import ZEPHYR

_INST_CHECKS = (
    "{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{%- else %}{% set turns = messages %}{% endif %}{{- bos_token }}"
    "{%- for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)


@dataclass(frozen=True)
class Style:
    """A chat template and the tokens that belong to it.

    Attributes:
        template: the Jinja source.
        special: control tokens of the tokenizer; the first is the BOS.
        eos: the tokenizer's end of sequence.
        added: further tokens that are not special.
        answers_begin: what stands between the last message and an answer.
        end: the text that ends an answer.
        hidden: what stands before an answer in use, but is left out of a chat with an answer.
        markers: patterns of role markers that are ordinary text.
        kind: "chatml" for byte-level BPE without a BOS of its own, "llama" for sentencepiece-style BPE with one.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    answers_begin: str
    end: str
    added: tuple[str, ...] = ()
    hidden: str = ""
    markers: tuple[str, ...] = ()
    kind: str = "chatml"


STYLES = {
    "llama-3.2": Style(
        "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
        "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
        "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}"
        "{{- 'Today Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}"
        "{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
        "{{- m['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "smollm3": Style(
        "{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        "{%- set mode = '/think' if enable_thinking else '/no_think' %}{%- set today = strftime_now('%d %B %Y') %}"
        "{{- '<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: ' + today }}"
        "{{- '\nReasoning Mode: ' + mode + '\n\n## Custom Instructions\n\n' }}"
        "{%- if messages[0].role == 'system' %}{{- messages[0].content.rstrip() }}{%- endif %}{{- '<|im_end|>\n' }}"
        "{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
        "{%- elif m.role == 'assistant' %}{% generation %}{%- if mode == '/think' %}"
        "{{- '<|im_start|>assistant\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}{%- else %}"
        "{{- '<|im_start|>assistant\n<think>\n\n</think>\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}{%- endif %}"
        "{% endgeneration %}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if mode == '/no_think' %}{{- '<think>\n\n</think>\n' }}{%- endif %}{%- endif %}",
        ("<|im_start|>", "<|im_end|>", "<|end_of_text|>"),
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n\n</think>\n",
        "<|im_end|>",
        added=("<think>", "</think>"),
    ),
    "gpt-oss": Style(
        "{{- '<|start|>system<|message|>You are a large language model.\nKnowledge cutoff: 2024-06\nCurrent date: ' }}"
        "{{- strftime_now('%Y-%m-%d') + '\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final.' }}"
        "{{- '<|end|>' }}{%- for m in messages %}{%- if m.role == 'system' %}"
        "{{- '<|start|>developer<|message|># Instructions\n\n' + m.content + '\n\n<|end|>' }}"
        "{%- elif m.role == 'assistant' %}{%- if '<|channel|>' in m.content %}"
        "{{- raise_exception('You have passed a message containing <|channel|> tags in the content field.') }}"
        "{%- endif %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
        "{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{%- else %}"
        "{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}",
        ("<|startoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|endoftext|>"),
        "<|return|>",
        "<|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
    ),
    "qwen3": Style(
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
        "{%- endif %}{%- for m in messages %}{%- if m.role == 'user' %}"
        "{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}{%- elif m.role == 'assistant' %}"
        "{{- '<|im_start|>assistant\n' }}{%- if loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
        "{{- m.content.lstrip('\n') + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
        "{%- endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>",
        added=("<think>", "</think>"),
    ),
    "qwen3.5": Style(
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' and loop.last %}"
        "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{{- m.content | trim + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- else %}"
        "{{- '<think>\n' }}{%- endif %}{%- endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>",
        added=("<think>", "</think>"),
    ),
    # Answers at once only if it is told in the text; has no switch and opens a thought in every prompt.
    "qwen3-thinking": Style(
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' and loop.last %}"
        "{{- '<think>\n' + m.reasoning_content | default('') + '\n</think>\n\n' }}{%- endif %}"
        "{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>",
        added=("<think>", "</think>"),
    ),
    "glm-4.5": Style(
        "[gMASK]<sop>{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|user|>\n' + m.content }}"
        "{{- '/nothink' if enable_thinking is defined and not enable_thinking and not m.content.endswith('/nothink') }}"
        "{%- elif m.role == 'assistant' %}{{- '<|assistant|>\n<think></think>' }}"
        "{%- if m.content.strip() %}{{- '\n' + m.content.strip() }}{%- endif %}{%- else %}"
        "{{- '<|system|>\n' + m.content }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
        "{{- '<|assistant|>' }}{%- if enable_thinking is defined and not enable_thinking %}"
        "{{- '\n<think></think>' }}{%- endif %}{%- endif %}",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"),
        "<|endoftext|>",
        "<|assistant|>\n<think></think>\n",
        "",
        added=("<think>", "</think>"),
    ),
    # A prompt that opens a thought, which no answer in a chat shows.
    "deepseek-r1": Style(
        "{{- bos_token }}{%- for m in messages %}{%- if m['role'] == 'system' %}{{- m['content'] }}"
        "{%- elif m['role'] == 'user' %}{{- '<｜User｜>' + m['content'] }}{%- else %}{%- set content = m['content'] %}"
        "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}"
        "{{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\n' }}{%- endif %}",
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        "<｜end▁of▁sentence｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        added=("<think>", "</think>"),
    ),
    "gemma-2": Style(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        "<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    "gemma-3": Style(
        "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
        "{%- set turns = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}"
        "{%- for m in turns -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
        "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
        "{{ first if loop.first else '' }}{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        "<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    "gemma-4": Style(
        "{{ bos_token }}{%- for m in messages -%}"
        "{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
        "{%- if m['role'] == 'system' and enable_thinking is defined and enable_thinking -%}{{ '<|think|>' }}"
        "{%- endif -%}{{ m['content'] | trim }}{{ '<turn|>\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}"
        "{%- if not enable_thinking | default(false) -%}{{ '<|channel>thought\n<channel|>' }}{%- endif -%}"
        "{%- endif -%}",
        ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
        "<turn|>",
        "<|turn>model\n<|channel>thought\n<channel|>",
        "<turn|>",
        hidden="<|channel>thought\n<channel|>",
    ),
    "granite": Style(
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
        "{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}"
        "{%- set system = 'Today is ' + strftime_now('%B %d, %Y') + '. You are a helpful assistant.' %}{%- endif %}"
        "{{- '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\n' }}{%- for m in turns %}"
        "{{- '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}"
        "{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant' }}"
        "{%- if thinking %}{{- ' {\"thinking\": true}' }}{%- endif %}{{- '<|end_of_role|>' }}{%- endif %}{%- endfor %}",
        ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        "<|end_of_text|>",
        "<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>",
    ),
    # The system text stands in the last user turn, and only if nothing follows that turn.
    "mistral-v0.3": Style(
        _INST_CHECKS + "{%- if m['role'] == 'user' %}{%- if loop.last and system is defined %}"
        "{{- '[INST] ' + system + '\n\n' + m['content'] + '[/INST]' }}{%- else %}"
        "{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}"
        "{{- ' ' + m['content'] | trim + eos_token }}{%- endif %}{%- endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "</s>",
        " ",
        "</s>",
        kind="llama",
    ),
    # The same, but the system text stays in the last user turn when the answer is there.
    "mistral-nemo": Style(
        _INST_CHECKS.replace(
            "{{- bos_token }}",
            "{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}{{- bos_token }}",
        )
        + "{%- if m['role'] == 'user' %}{%- if m == asked[-1] and system is defined %}"
        "{{- '[INST]' + system + '\n\n' + m['content'] + '[/INST]' }}{%- else %}"
        "{{- '[INST]' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}{{- m['content'] + eos_token }}{%- endif %}"
        "{%- endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "</s>",
        "",
        "</s>",
    ),
    "zephyr": Style(
        ZEPHYR,
        ("<s>", "</s>"),
        "</s>",
        "<|assistant|>\n",
        "</s>",
        markers=(r"(?i)<\|(user|assistant|system)\|>",),
        kind="llama",
    ),
    "phi-4": Style(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
        "<|im_end|>",
        "<|im_start|>assistant<|im_sep|>",
        "<|im_end|>",
    ),
    "phi-4-mini": Style(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|endoftext|>",
        "<|assistant|>",
        "<|end|>",
    ),
    # Its tokenizer's end of sequence is another token than the one that closes a turn.
    "chatml-with-another-eos": Style(
        tiny_models.CHATML,
        ("<s>", "</s>", "<|im_start|>", "<|im_end|>"),
        "</s>",
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "alpaca": Style(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% elif m['role'] == 'user' %}"
        "{{ '### Instruction:\n' + m['content'] + '\n\n' }}{% else %}{{ '### Response:\n' + m['content'] + eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}",
        ("<s>", "</s>"),
        "</s>",
        "### Response:\n",
        "</s>",
        markers=(r"(?i)### ?(Instruction|Response):",),
    ),
    "vicuna": Style(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}"
        "{{ ' USER: ' + m['content'] }}{% else %}{{ ' ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}",
        ("<s>", "</s>"),
        "</s>",
        " ASSISTANT: ",
        "</s>",
        markers=(r" (USER|ASSISTANT):",),
    ),
    # Neither its roles nor the end of its turns are control tokens.
    "human-assistant": Style(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% else %}"
        "{{ '\n\n' + ('Human' if m['role'] == 'user' else 'Assistant') + ': ' + m['content'] }}"
        "{{ '\n###' if m['role'] == 'assistant' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}",
        ("<|endoftext|>",),
        "<|endoftext|>",
        "\n\nAssistant: ",
        "",
        markers=(r"(?im)^\s*(Human|Assistant):",),
    ),
}


def styled_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerFast:
    """Save a tiny tokenizer with the template and the tokens of the style ``name`` to ``folder``, and load it."""
    style = STYLES[name]
    if style.kind == "llama":
        tiny_models.llama_tokenizer(folder, style.template)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": list(style.special[2:])})
    else:
        tokenizer = tiny_models.bpe_tokenizer(
            style.special, bos=style.special[0], eos=style.eos, template=style.template, words=tiny_models.WORDS
        )
    tokenizer.add_tokens(list(style.added))
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def styled_model(name: str, folder: Path) -> Path:
    """Save a tiny Mistral with the tokenizer of the style ``name`` to ``folder``."""
    tokenizer = styled_tokenizer(name, folder)
    return tiny_models.save_mistral(folder, tokenizer, seed=5)
