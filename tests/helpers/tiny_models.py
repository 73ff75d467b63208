"""Model folders of real architectures with a few thousand random weights.

Architecture, tokenizer family and chat template are real, since correctness depends on them. The weights are random,
with a standard deviation of 0.2 and more, so that the logits differ and a wrong logit shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.helpers.llama_tokenizer import ZEPHYR, save_llama_tokenizer, train_llama_tokenizer
from whinchat.models.backbone import Backbone, load_backbone
from whinchat.models.forward import Engine
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Task

# Lite-Oute-1, SmolLM2, Qwen.
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Mistral-7B-Instruct-v0.1: writes the BOS itself and refuses a system role.
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

# The pattern by which Llama 3, Qwen and SmolLM3 split a text: line breaks stay together.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Label words by their number of tokens under both tokenizers; test_tiny_models.py checks them.
ONE_TOKEN = ("bad", "fine", "good")
SEVERAL_TOKENS = ("worrying", "mediocre", "hilarious")
BRANCHING = ("very bad", "very fine", "very good", "hopeless")
NESTED = ("good", "good enough", "bad")
LABEL_SETS = {"one": ONE_TOKEN, "several": SEVERAL_TOKENS, "branching": BRANCHING, "nested": NESTED}

# What the fixture ``tiny_model`` goes through.
BOTH = ("tiny_llama", "tiny_mistral")

INSTRUCTION = "You rate short texts. Answer with one of the given words."

TEXTS = (
    "what a good day at the beach",
    "this is bad, really bad and very late again",
    "the train is here",
    "fine.",
    "I can't believe how good the new phone is, the screen is bright and the sound is clear!",
    "so so",
    "never again: the food was cold, the waiter was rude, and the bill was wrong",
    "see you at the station at nine",
)

# Each starts so that its first characters may merge with what stands before the text.
BORDER_TEXTS = (
    "\n\nnew lines first",
    "\n one new line",
    "\n",
    "\n\n",
    "  two blanks first",
    " one blank first",
    '"quoted" and not',
    '""',
    "s and more letters",
    "weeting letters",
    "\ttab first",
    "é accent",
    "日本語",
    "😀 face",
    "",
)

_CORPUS = (
    [*TEXTS] * 4
    + [INSTRUCTION] * 8
    + ["good", "bad", "fine"] * 20
    + ["very good", "very bad", "very fine", "good enough"] * 8
    + ["worry", "ing", "medio", "cre", "hilar", "ious", "hope", "less"] * 8
    + ["nega", "tive", "neu", "tral", "posi"] * 8
    + ["<|user|>", "<|system|>", "<|assistant|>", "[INST]", "[/INST]", "user", "system", "assistant"] * 4
    + ["Tweet: the tweets are here", "tweet", "tweets", '"quoted"', '""', 'the "good" tweet', "Text:"] * 6
    + ["user\n\n the", "text\n\nText", "system\n\nYou", "\n\n\n", '\n"the']
)


def llama_tokenizer(folder: Path, template: str | None = ZEPHYR, vocab: int = 480, texts: Sequence[str] = ()) -> None:
    """Save a tokenizer of TinyLlama's family to ``folder``, which knows the words of ``texts`` as well."""
    lines = [line for text in (*_CORPUS, *texts) for line in text.split("\n")]
    save_llama_tokenizer(train_llama_tokenizer(lines, vocab - 259), folder, template)


def chatml_tokenizer(folder: Path, template: str | None = CHATML, vocab: int = 480) -> None:
    """Save a byte-level BPE tokenizer with ChatML's markers to ``folder``; it adds no BOS."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = bpe_tokenizer(special, bos="<|im_start|>", eos="<|im_end|>", template=template, vocab=vocab)
    tokenizer.save_pretrained(folder)


def bpe_tokenizer(
    special: Sequence[str], *, bos: str, eos: str, template: str | None, vocab: int = 480, words: str | None = None
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with the control tokens ``special``; it adds no BOS.

    ``words`` is the pattern of what may become a token; None for that of GPT-2.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words is not None:
        splitter = pre_tokenizers.Split(Regex(words), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [splitter, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(special),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        unk_token=special[0],
        chat_template=template,
    )


def make_llama(
    folder: Path, *, seed: int = 1, template: str | None = ZEPHYR, hidden: int = 32, texts: Sequence[str] = ()
) -> Path:
    """Save a tiny model like TinyLlama: untied, grouped keys and values, Zephyr template, BOS from the tokenizer."""
    llama_tokenizer(folder, template, 1200 if texts else 480, texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        **_shape(len(tokenizer), hidden),
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
    # As TinyLlama's own file has it.
    _save(LlamaForCausalLM, config, folder, seed, GenerationConfig(bos_token_id=1, eos_token_id=2, max_length=2048))
    return folder


def make_mistral(
    folder: Path, *, seed: int = 2, template: str | None = CHATML, hidden: int = 32, sliding_window: int = 4096
) -> Path:
    """Save a tiny model like Lite-Oute: Mistral, byte-level BPE, ChatML, no BOS."""
    chatml_tokenizer(folder, template)
    return save_mistral(folder, AutoTokenizer.from_pretrained(folder), seed, hidden, sliding_window)


def save_mistral(
    folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, hidden: int = 32, sliding_window: int = 4096
) -> Path:
    """Save a tiny Mistral with the vocabulary of ``tokenizer``, whose files ``folder`` holds."""
    config = MistralConfig(
        **_shape(len(tokenizer), hidden),
        sliding_window=sliding_window,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    generation = GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    _save(MistralForCausalLM, config, folder, seed, generation)
    return folder


def make_mistral_inst(folder: Path, *, seed: int = 3) -> Path:
    """Save a tiny Mistral whose tokenizer adds a BOS although its template writes one; it has no system role."""
    llama_tokenizer(folder, INST)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = MistralConfig(
        **_shape(len(tokenizer), 32), sliding_window=4096, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2
    )
    _save(MistralForCausalLM, config, folder, seed, GenerationConfig(bos_token_id=1, eos_token_id=2))
    return folder


def _shape(vocab: int, hidden: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.25,
    }


def _save(kind: Any, config: Any, folder: Path, seed: int, generation: GenerationConfig) -> None:
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.7, 1.3)
    model.generation_config = generation
    model.save_pretrained(folder)


def tiny_task(labels: Sequence[str] = ONE_TOKEN, **fields: Any) -> Task:
    """Return a task over ``labels``."""
    return Task.model_validate({"name": "tiny", "labels": tuple(labels), "instruction": INSTRUCTION, **fields})


def tiny_recipe(model: Path | str, *, source: Path | str = "unused", **sections: Any) -> Recipe:
    """Return a recipe for ``model`` in float32; ``sections`` replace fields of its six sections."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "task": {"name": "tiny", "labels": ONE_TOKEN, "instruction": INSTRUCTION, **sections.get("task", {})},
            "data": {"source": str(source), **sections.get("data", {})},
            "backbone": {"model": str(model), "load_in": "float32", "device": "cpu", **sections.get("backbone", {})},
            "adapter": {"r": 4, "lora_alpha": 8, **sections.get("adapter", {})},
            "train": sections.get("train", {}),
            "evaluate": sections.get("evaluate", {}),
        }
    )


def load(model: Path | str, **backbone: Any) -> Backbone:
    """Load ``model`` anew, in float32 unless ``backbone`` says otherwise."""
    return load_backbone(tiny_recipe(model, backbone=backbone).backbone)


def template_of(
    backbone: Backbone, labels: Sequence[str] = ONE_TOKEN, *, limit: int = 512, **task: Any
) -> PromptTemplate:
    """Return the prompt template of ``backbone`` for ``labels``."""
    return PromptTemplate(
        backbone.tokenizer.tokenizer,
        tiny_task(labels, **task),
        end_ids=backbone.tokenizer.end_ids,
        max_prompt_tokens=limit,
        model=backbone.source.name,
    )


def engine_of(backbone: Backbone, labels: Sequence[str] = ONE_TOKEN, model: Any = None, **task: Any) -> Engine:
    """Return an engine over the model of ``backbone``, or over ``model``, the same with an adapter."""
    return Engine.build(model or backbone.model, backbone.plan, template_of(backbone, labels, **task))


def stir(model: torch.nn.Module, seed: int = 7, scale: float = 0.1) -> None:
    """Change every trainable weight at random, so that B is not zero and the adapter changes the logits."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=draw).to(parameter))


def toy_rows(count: int, labels: Sequence[str] = ONE_TOKEN, seed: int = 0) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return texts whose label follows from one word, and their labels: a task that a tiny model can learn."""
    clues = ("rain", "tea", "sun", "snow", "wind")
    fillers = ("the", "day", "at", "station", "is", "here", "and", "new", "screen", "again")
    draw = random.Random(seed)
    texts, targets = [], []
    for _ in range(count):
        label = draw.randrange(len(labels))
        words = draw.choices(fillers, k=draw.randint(2, 9))
        words.insert(draw.randint(0, len(words)), clues[label])
        texts.append(" ".join(words))
        targets.append(label)
    return tuple(texts), tuple(targets)
