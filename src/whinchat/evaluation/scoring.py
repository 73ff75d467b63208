"""log P(answer | prompt) of every label: exact, for answers of one token or of several.

B: rows of a batch. N: answer nodes. V: vocabulary. K: labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from whinchat.models.forward import Engine, answer_logits, inference
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import Progress, progress
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch, by_length, collate
from whinchat.prompts.template import Prompt

# Fewer rows for each core than this are sooner computed by all cores together: 8 tweets on two cores in 547 ms instead
# of 699, 32 no sooner.
_ROWS_A_CORE = 16


def label_log_probs(logits: Tensor, tree: AnswerTree) -> Tensor:
    """Sums of token log-probabilities along each label's path, (B, K), from logits (B, 1 + N, V).

    Over the whole vocabulary, so the K probabilities add up to at most one: the rest is what else the model might say.
    """
    normalizer = logits.logsumexp(dim=-1)  # (B, 1 + N)
    columns = []
    for path in tree.paths:
        places = [place for place, _ in path]
        tokens = [token for _, token in path]
        columns.append((logits[:, places, tokens] - normalizer[:, places]).sum(dim=1))
    return torch.stack(columns, dim=1)


def label_logits(engine: Engine, batch: Batch, prefix: PrefixCache | None = None) -> Tensor:
    """What the labels are compared by, (B, K): ``label_log_probs`` but for a constant of each row.

    Where each answer is one token the constant is the rest of the vocabulary, which is left out then.
    """
    label_tokens = engine.tree.label_tokens
    logits = answer_logits(engine.model, engine.plan, batch, engine.tree, prefix, label_tokens)
    return label_log_probs(logits, engine.tree) if label_tokens is None else logits[:, 0].log_softmax(dim=-1)


def score_prompts(
    engine: Engine,
    prompts: Sequence[Prompt],
    batch_size: int,
    title: str = "Scoring",
    *,
    deterministic: bool = False,
    bar: Progress | None = None,
    prefix: PrefixCache | None = None,
    labels_only: bool = False,
) -> NDArray[np.float32]:
    """Log-probabilities of the answers, (n, K), rows in the order of ``prompts``, columns in that of the labels.

    On a CPU every core works on a batch of its own where there are rows enough: that is faster than all cores on one.

    Args:
        engine: the model and its prompts' answers.
        prompts: n of them.
        batch_size: rows to compute together, at most.
        title: of the progress bar.
        deterministic: use a fixed batch layout and one thread a batch, so that results are bit-identical on any number
            of cores.
        bar: a bar that is moved on instead of one made for this call.
        prefix: what most prompts begin with, read before; worth its while where batches are small.
        labels_only: return ``label_logits``, which leave out the rest of the vocabulary where they can: cheaper, and
            enough to compare the labels.
    """
    scores = np.full((len(prompts), len(engine.tree.paths)), np.nan, dtype=np.float32)
    ids = [prompt.ids for prompt in prompts]
    cores = torch.get_num_threads() if engine.plan.device == "cpu" else 1
    shares = 1 if deterministic else max(1, min(cores, len(ids) // _ROWS_A_CORE))
    batches = by_length([len(one) for one in ids], batch_size, shares)
    workers = max(1, min(cores, len(batches)))

    def score_batch(rows: list[int]) -> list[int]:
        whole = [ids[row] for row in rows]
        known = prefix if prefix is not None and all(_begins(one, prefix.ids) for one in whole) else None
        batch = collate(whole, [engine.tree.tokens] * len(rows), None if known is None else len(known.ids))
        with torch.inference_mode():
            if labels_only:
                found = label_logits(engine, batch, known)
            else:
                logits = answer_logits(engine.model, engine.plan, batch, engine.tree, known)
                found = label_log_probs(logits, engine.tree)
            scores[rows] = found.cpu().numpy()
        return rows

    with ExitStack() as stack:
        stack.enter_context(inference(engine.model))
        moved = bar if bar is not None else stack.enter_context(progress(title, len(ids)))
        done: Iterator[list[int]] = map(score_batch, batches)
        # A new thread has none of torch's caches yet, so a batch that is alone stays in this one.
        if workers > 1 or deterministic:
            # The number of threads that a torch operation uses is set for each calling thread.
            threads = 1 if deterministic else cores // workers
            pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
            done = stack.enter_context(pool).map(score_batch, batches)
        for rows in done:
            moved.update(len(rows))
    return scores


def _begins(ids: tuple[int, ...], prefix: tuple[int, ...]) -> bool:
    """Whether ``ids`` go on after ``prefix``."""
    return len(ids) > len(prefix) and ids[: len(prefix)] == prefix


def label_probabilities(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities among the labels alone, (n, K), each row adding up to one."""
    shares: NDArray[np.float64] = softmax(log_probs.astype(np.float64), axis=1)
    return shares
