"""What a GGUF file answers: by llama.cpp where its Python binding is installed, by transformers otherwise.

N: texts. K: labels. V: vocabulary.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM

from whinchat.errors import ModelError
from whinchat.export.modelfile import PromptFrame
from whinchat.inference.predictor import Predictor
from whinchat.models.device import plan_device
from whinchat.models.forward import Engine
from whinchat.progress import track
from whinchat.prompts.batching import shared_prefix


def gguf_reader_name() -> str:
    """What the files are read with."""
    if find_spec("llama_cpp") is None:
        return f"transformers {version('transformers')}"
    return f"llama.cpp (llama-cpp-python {version('llama-cpp-python')})"


def gguf_scores(path: Path, frame: PromptFrame, predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """Log-probabilities of the labels' answers, (N, K).

    llama.cpp gets every prompt as a string, so that its tokenizer is proved, too. transformers reads the weights alone,
    and whinchat makes the prompts.

    Raises:
        ModelError: llama.cpp does not take the file.
    """
    if find_spec("llama_cpp") is None:
        return _by_transformers(path, predictor, texts)
    instruction = predictor.recipe.task.instruction
    answers = [tuple(token for _, token in answer) for answer in predictor.engine.tree.paths]
    return _by_llama_cpp(path, [frame.prompt(instruction, text) for text in texts], answers)


def _by_transformers(path: Path, predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:

    full = {"load_in": "float32", "compute_dtype": "float32", "device": "cpu"}
    plan = plan_device(predictor.recipe.backbone.model_copy(update=full))
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation=plan.attn_implementation
    )
    model.requires_grad_(False).eval()
    engine = Engine.build(model, plan, predictor.engine.template)
    return Predictor(predictor.recipe, engine, predictor.calibrator).score(texts)


def _by_llama_cpp(path: Path, prompts: Sequence[str], answers: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    """Scores of ``answers``, token ids each, after ``prompts``."""
    import llama_cpp as lib

    # The binding prints what llama.cpp says where this logger would.
    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
    settings = lib.llama_model_default_params()
    settings.n_gpu_layers = 0
    # Weights repacked for AMX crash llama.cpp as of llama-cpp-python 0.3.36 (docs/benchmarks.md).
    settings.use_extra_bufts = False
    model = lib.llama_model_load_from_file(os.fsencode(path), settings)
    if model is None:
        raise ModelError(f"{path.name}: llama.cpp does not load it; its reasons are those that llama-cli prints")
    try:
        vocabulary = lib.llama_model_get_vocab(model)
        ids = [_tokens(lib, vocabulary, prompt) for prompt in prompts]
        room = lib.llama_context_default_params()
        room.n_ctx = room.n_batch = max(map(len, ids)) + max(map(len, answers))
        room.n_threads = room.n_threads_batch = torch.get_num_threads()
        context = lib.llama_init_from_model(model, room)
        if context is None:
            raise ModelError(f"{path.name}: llama.cpp has no room for a prompt of {room.n_ctx} tokens")
        try:
            reading = _Reading(lib, context, lib.llama_vocab_n_tokens(vocabulary))
            return np.array(
                [_scores(reading, prompt, answers) for prompt in track(ids, f"Reading {path.name}")], dtype=np.float32
            )
        finally:
            lib.llama_free(context)
    finally:
        lib.llama_model_free(model)


def _tokens(lib: Any, vocabulary: Any, text: str) -> tuple[int, ...]:
    """As every program on llama.cpp reads a prompt: BOS where the file says so, control tokens as such."""
    given = text.encode()
    room = (lib.llama_token * (len(given) + 2))()
    count = lib.llama_tokenize(vocabulary, given, len(given), room, len(room), True, True)
    return tuple(room[:count])


def _scores(reading: _Reading, prompt: tuple[int, ...], answers: Sequence[tuple[int, ...]]) -> list[float]:
    """Sums of token log-probabilities along each answer, (K,)."""
    after = reading.log_probs(prompt)
    sums = []
    for answer in answers:
        found = after[answer[0]]
        for at in range(1, len(answer)):
            found += reading.log_probs(prompt + answer[:at])[answer[at]]
        sums.append(float(found))
    return sums


class _Reading:
    """A llama.cpp context, and the tokens whose keys and values it holds."""

    def __init__(self, lib: Any, context: Any, vocabulary: int) -> None:
        self._lib, self._context, self._size = lib, context, vocabulary
        self._held: tuple[int, ...] = ()

    def log_probs(self, ids: tuple[int, ...]) -> NDArray[np.float64]:
        """Log-probabilities of what comes after ``ids``, (V,); only what differs from the last call is computed."""
        kept = shared_prefix([self._held, ids]) if self._held else 0
        self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self._context), 0, kept, -1)
        rest = (self._lib.llama_token * (len(ids) - kept))(*ids[kept:])
        if fault := self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(rest, len(rest))):
            raise ModelError(f"llama.cpp does not compute what it loaded (llama_decode: {fault})")
        self._held = ids
        logits = self._lib.llama_get_logits_ith(self._context, -1)
        found: NDArray[np.float64] = log_softmax(np.ctypeslib.as_array(logits, (self._size,)).astype(np.float64))
        return found
