"""llama.cpp through its Python binding, with a grammar that admits the labels' words and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.contestants.base import Base, mean_length
from benchmarks.protocol import Measured, UnavailableError
from whinchat.data.packages import PREFIX, fetch_package_file
from whinchat.models.backbone import find_model, load_tokenizer


class LlamaCpp(Base):
    """Rounds of ``create_completion``, one text at a time.

    The weights are the wheel's own Q4_1 file. The binding keeps the keys and values of the last prompt and computes
    anew only what differs from it, so the instruction is computed once.
    """

    def load(self) -> None:
        if find_spec("llama_cpp") is None:
            raise UnavailableError("llama-cpp-python is not installed; make bench-llama builds it")
        import llama_cpp

        recipe = self.recipe()
        self.template = load_tokenizer(find_model(recipe.backbone)).template(recipe)
        path = fetch_package_file(recipe.backbone.model.removeprefix(PREFIX))
        threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        repacked = _survives(path)
        with _defaults(use_extra_bufts=repacked):
            self.model = llama_cpp.Llama(
                str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
            )
        words = " | ".join(f'"{word}"' for word in recipe.task.answer_words)
        self.grammar = llama_cpp.LlamaGrammar.from_string(f"root ::= {words}", verbose=False)
        prompts = [prompt.ids for prompt in self.template.encode(self.split().texts)]
        self._facts = {
            "llama_cpp_python": llama_cpp.__version__,
            "weights": path.name,
            "threads": threads,
            "repacked_weights": repacked,
            "mean_prompt_tokens": mean_length(prompts),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        prompts = [list(prompt.ids) for prompt in self.template.encode(self.split(warm_up=warm_up).texts)]
        started = time.perf_counter()
        answers = [
            self.model.create_completion(ids, max_tokens=8, temperature=0.0, grammar=self.grammar)["choices"][0]["text"]
            for ids in prompts
        ]
        seconds = time.perf_counter() - started
        known = sum(answer.strip() in self.template.task.answer_words for answer in answers)
        return Measured(len(prompts), seconds, {"answers_that_are_labels": known})


_PROBE = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
model.create_completion([1, 2, 3, 4], max_tokens=1)
"""


def _survives(path: Path) -> bool:
    """Whether llama.cpp runs with weights repacked for this processor, as it does by default.

    With llama-cpp-python 0.3.36 built for a processor with AMX, the first product of a Q4_1 model is a segmentation
    fault, which no exception handler catches; without repacking it works.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE, str(path)], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def _defaults(**fields: Any) -> Iterator[None]:
    """Model parameters that the binding has no argument for."""
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    for name, value in fields.items():
        setattr(parameters, name, value)
    with patch("llama_cpp.llama_cpp.llama_model_default_params", return_value=parameters):
        yield
