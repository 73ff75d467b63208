"""Score texts with a GGUF file: by llama.cpp if its Python binding is installed, else by transformers.

N: texts. K: labels. V: size of the vocabulary.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
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
from whinchat.evaluation.joint_scoring import decision_engines, score_questions
from whinchat.export.modelfile import PromptFrame
from whinchat.export.question_prompts import DecisionPrompt
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.models.device import plan_device
from whinchat.models.forward import Engine
from whinchat.progress import track
from whinchat.prompts.batching import shared_prefix
from whinchat.recipe.schema import Recipe


def gguf_reader_name() -> str:
    """Return the program that reads the files, with its version."""
    if find_spec("llama_cpp") is None:
        return f"transformers {version('transformers')}"
    return f"llama.cpp (llama-cpp-python {version('llama-cpp-python')})"


def gguf_scores(path: Path, frame: PromptFrame, predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the log-probability of each label's answer, (N, K).

    llama.cpp gets every prompt as a string, so its tokenizer is part of the proof. transformers reads only the weights;
    the token ids come from whinchat's own tokenizer.

    Raises:
        ModelError: llama.cpp cannot load or compute the file.
    """
    if find_spec("llama_cpp") is None:
        engine = _read_by_transformers(path, predictor.recipe, predictor.engine)
        return Predictor(predictor.recipe, engine, predictor.calibrator).score(texts)
    instruction = predictor.recipe.task.instruction
    answers = [tuple(token for _, token in answer) for answer in predictor.engine.tree.paths]
    return _scores_by_llama_cpp(path, [[frame.prompt(instruction, text) for text in texts]], [answers])[0]


def gguf_question_scores(
    path: Path,
    frame: PromptFrame,
    decisions: Sequence[DecisionPrompt],
    predictor: QuestionPredictor,
    texts: Sequence[str],
) -> list[NDArray[np.float32]]:
    """Return the log-probability of each label's answer, (N, K), for each of ``decisions``; see ``gguf_scores``."""
    if find_spec("llama_cpp") is None:
        first = _read_by_transformers(path, predictor.recipe, predictor.engines[0])
        engines = decision_engines(first, predictor.recipe.task)
        prompts = [engine.template.encode(texts) for engine in engines]
        return score_questions(engines, prompts, predictor.recipe.evaluate.per_device_eval_batch_size, "Reading")
    instruction = predictor.recipe.task.instruction
    asked = [[frame.prompt(instruction, decision.message(text)) for text in texts] for decision in decisions]
    return _scores_by_llama_cpp(path, asked, [decision.answers for decision in decisions])


def _read_by_transformers(path: Path, recipe: Recipe, engine: Engine) -> Engine:
    """Return ``engine`` with the weights of a file, in float32 on the CPU."""
    full = {"load_in": "float32", "compute_dtype": "float32", "device": "cpu"}
    plan = plan_device(recipe.backbone.model_copy(update=full))
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        attn_implementation=plan.attn_implementation,
        trust_remote_code=False,
    )
    model.requires_grad_(False).eval()
    return Engine.build(model, plan, engine.template)


def _scores_by_llama_cpp(
    path: Path, prompts: Sequence[Sequence[str]], answers: Sequence[Sequence[tuple[int, ...]]]
) -> list[NDArray[np.float32]]:
    """Return for each decision the log-probability of each of its answers, as token ids, after its prompts, (N, K)."""
    import llama_cpp  # an optional package

    # The binding prints llama.cpp's messages unless this logger is quieter.
    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    # Weights repacked for AMX crash llama.cpp as of llama-cpp-python 0.3.36 (docs/benchmarks.md).
    settings.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), settings)
    if model is None:
        raise ModelError(f"{path.name}: llama.cpp cannot load the file; llama-cli prints the reason")
    with ExitStack() as stack:
        stack.callback(llama_cpp.llama_model_free, model)
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        # The prompts of a text follow each other, because what they share stays in the cache.
        ids = [[_tokens(llama_cpp, vocabulary, prompt) for prompt in of_text] for of_text in zip(*prompts, strict=True)]
        sizes = llama_cpp.llama_context_default_params()
        longest = max(len(answer) for own in answers for answer in own)
        sizes.n_ctx = sizes.n_batch = max(len(prompt) for of_text in ids for prompt in of_text) + longest
        sizes.n_threads = sizes.n_threads_batch = torch.get_num_threads()
        context = llama_cpp.llama_init_from_model(model, sizes)
        if context is None:
            raise ModelError(f"{path.name}: llama.cpp has no memory for a prompt of {sizes.n_ctx} tokens")
        stack.callback(llama_cpp.llama_free, context)
        session = _LlamaSession(llama_cpp, context, llama_cpp.llama_vocab_n_tokens(vocabulary))
        rows = [
            [_answer_log_probs(session, prompt, own) for prompt, own in zip(of_text, answers, strict=True)]
            for of_text in track(ids, f"Reading {path.name}")
        ]
        return [np.array(own, dtype=np.float32) for own in zip(*rows, strict=True)]


def _tokens(lib: Any, vocabulary: Any, text: str) -> tuple[int, ...]:
    """Tokenize a prompt as the programs of llama.cpp do: with BOS if the file says so, and with control tokens."""
    utf8 = text.encode()
    ids = (lib.llama_token * (len(utf8) + 2))()
    count = lib.llama_tokenize(vocabulary, utf8, len(utf8), ids, len(ids), True, True)
    return tuple(ids[:count])


def _answer_log_probs(
    session: _LlamaSession, prompt: tuple[int, ...], answers: Sequence[tuple[int, ...]]
) -> list[float]:
    """Return the sum of token log-probabilities along each answer, (K,)."""
    first = session.log_probs(prompt)
    sums = []
    for answer in answers:
        total = first[answer[0]]
        for i in range(1, len(answer)):
            total += session.log_probs(prompt + answer[:i])[answer[i]]
        sums.append(float(total))
    return sums


class _LlamaSession:
    """A llama.cpp context, and the tokens whose keys and values are in its cache."""

    def __init__(self, lib: Any, context: Any, vocabulary: int) -> None:
        self._lib, self._context, self._size = lib, context, vocabulary
        self._cached: tuple[int, ...] = ()

    def log_probs(self, ids: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the log-probability of each next token after ``ids``, (V,).

        Only the tokens after the part shared with the last call are computed.
        """
        kept = shared_prefix([self._cached, ids]) if self._cached else 0
        self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self._context), 0, kept, -1)
        rest = (self._lib.llama_token * (len(ids) - kept))(*ids[kept:])
        if fault := self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(rest, len(rest))):
            raise ModelError(f"llama.cpp cannot compute the model that it loaded (llama_decode: {fault})")
        self._cached = ids
        logits = self._lib.llama_get_logits_ith(self._context, -1)
        log_probs: NDArray[np.float64] = log_softmax(np.ctypeslib.as_array(logits, (self._size,)).astype(np.float64))
        return log_probs
