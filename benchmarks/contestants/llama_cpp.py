"""llama.cpp through its Python binding, with a grammar that allows the labels' words only."""

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

from benchmarks.contestants.base import Contestant, mean_length
from benchmarks.entries import Measured, UnavailableError
from whinchat.data.packages import PACKAGE_PREFIX, fetch_package_file
from whinchat.models.device import usable_cores


class LlamaCpp(Contestant):
    """Rounds of ``create_completion``, one text at a time, with the Q4_1 weights of the wheel.

    The binding keeps keys and values of the last prompt and computes only what differs, so the instruction is computed
    once.
    """

    def load(self) -> None:
        if find_spec("llama_cpp") is None:
            raise UnavailableError("llama-cpp-python is not installed; make bench-llama builds it")
        import llama_cpp

        self.load_tokenizer()
        path = fetch_package_file(self.recipe.backbone.model.removeprefix(PACKAGE_PREFIX))
        threads = int(os.environ.get("OMP_NUM_THREADS") or usable_cores())
        repacked = _runs_repacked(path)
        with _default_parameters(use_extra_bufts=repacked):
            self.model = llama_cpp.Llama(
                str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
            )
        words = " | ".join(f'"{word}"' for word in self.recipe.task.answer_words)
        self.grammar = llama_cpp.LlamaGrammar.from_string(f"root ::= {words}", verbose=False)
        self.facts = {
            "llama_cpp_python": llama_cpp.__version__,
            "weights": path.name,
            "threads": threads,
            "repacked_weights": repacked,
            "mean_prompt_tokens": mean_length(self.prompts()),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        prompts = [list(ids) for ids in self.prompts(warm_up=warm_up)]
        started = time.perf_counter()
        answers = [
            self.model.create_completion(ids, max_tokens=8, temperature=0.0, grammar=self.grammar)["choices"][0]["text"]
            for ids in prompts
        ]
        seconds = time.perf_counter() - started
        labels = sum(answer.strip() in self.template.task.answer_words for answer in answers)
        return Measured(len(prompts), seconds, {"answers_that_are_labels": labels})


_PROBE = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
model.create_completion([1, 2, 3, 4], max_tokens=1)
"""


def _runs_repacked(path: Path) -> bool:
    """Return whether llama.cpp runs with weights repacked for this processor, as it does by default.

    With llama-cpp-python 0.3.36 built for a processor with AMX, the first product of a Q4_1 model is a segmentation
    fault, which no exception handler catches; without repacking it works.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE, str(path)], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def _default_parameters(**fields: Any) -> Iterator[None]:
    """Set model parameters for which the binding has no argument."""
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    for name, value in fields.items():
        setattr(parameters, name, value)
    with patch("llama_cpp.llama_cpp.llama_model_default_params", return_value=parameters):
        yield
