"""Exact log P(answer | prompt) of every label, for answers of one token or several.

B: rows of a batch. N: answer nodes. V: vocabulary. K: labels. R: prompts.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from textwrap import shorten

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from whinchat.errors import ModelError
from whinchat.models.forward import Engine, answer_logits, inference
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import Progress, progress
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch, by_length, collate
from whinchat.prompts.template import Prompt

# With fewer rows than this for each core, all cores together on one batch are faster: on two cores 8 tweets take 547 ms
# instead of 699, and 32 tweets take the same time.
_MIN_ROWS_PER_CORE = 16


def label_log_probs(logits: Tensor, tree: AnswerTree) -> Tensor:
    """Sum the token log-probabilities along each label's path, (B, K), from logits (B, 1 + N, V).

    The probabilities are normalized over the whole vocabulary, so those of the K labels sum to at most one. The rest is
    the probability that the model says something else.
    """
    normalizer = logits.logsumexp(dim=-1)  # (B, 1 + N)
    log_probs = []
    for path in tree.paths:
        columns = [column for column, _ in path]
        tokens = [token for _, token in path]
        log_probs.append((logits[:, columns, tokens] - normalizer[:, columns]).sum(dim=1))
    return torch.stack(log_probs, dim=1)


def label_logits(engine: Engine, batch: Batch, prefix: PrefixCache | None = None) -> Tensor:
    """Compute ``label_log_probs`` up to a constant of each row, (B, K): enough to compare the labels.

    Where every answer is one token, the labels are normalized among themselves, and the logits of the rest of the
    vocabulary are not computed.

    Args:
        engine: the model and the answers of its prompts.
        batch: prompts with the nodes of ``engine.tree``.
        prefix: the cache of ``batch.prefix``; None to compute the prefix with the batch.
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
    """Score every label for every prompt.

    On a CPU with rows enough, each core computes a batch of its own, which is faster than all cores on one batch.

    Args:
        engine: the model and the answers of its prompts.
        prompts: R prompts.
        batch_size: largest number of rows of a batch.
        title: of the progress bar.
        deterministic: use a fixed batch layout and one thread a batch, so that results are bit-identical on any number
            of cores.
        bar: a progress bar to advance; None to show one for this call. The caller closes the bar it passes.
        prefix: the cache of a prefix that most prompts share, from ``Engine.read_prefix``. It pays where batches are
            small.
        labels_only: return ``label_logits``, which are cheaper and enough to compare the labels.

    Returns:
        Log-probabilities, (R, K), rows in the order of ``prompts``, columns in the order of the labels.

    Raises:
        ModelError: the scores of a prompt are not finite, or a single prompt does not fit into memory.
    """
    scores = np.full((len(prompts), len(engine.tree.paths)), np.nan, dtype=np.float32)
    ids = [prompt.ids for prompt in prompts]
    cores = torch.get_num_threads() if engine.plan.device == "cpu" else 1
    shares = 1 if deterministic else max(1, min(cores, len(ids) // _MIN_ROWS_PER_CORE))
    batches = by_length([len(tokens) for tokens in ids], batch_size, shares)
    workers = max(1, min(cores, len(batches)))

    def score_rows(rows: list[int]) -> list[int]:
        def score_part(part: slice) -> NDArray[np.float32]:
            return _score_batch(engine, [ids[row] for row in rows[part]], prefix, labels_only).cpu().numpy()

        scores[rows] = np.concatenate(engine.batch_limit.compute(len(rows), score_part))
        for row in rows:
            _check_finite(engine, scores[row], ids[row], f"{title}: prompt {row + 1} of {len(ids)}")
        return rows

    with ExitStack() as stack:
        stack.enter_context(inference(engine.model))
        bar = bar if bar is not None else stack.enter_context(progress(title, len(ids)))
        scored: Iterator[list[int]] = map(score_rows, batches)
        # A new thread has none of torch's caches yet, so a single batch stays in this thread.
        if workers > 1 or deterministic:
            # torch sets the number of threads of its operations for each calling thread.
            threads = 1 if deterministic else cores // workers
            pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
            scored = stack.enter_context(pool).map(score_rows, batches)
            # After Ctrl-C, batches that have not begun are not computed any more.
            stack.callback(pool.shutdown, cancel_futures=True)
        for rows in scored:
            bar.update(len(rows))
    return scores


def label_probabilities(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalize log-probabilities (R, K) over the labels: probabilities, (R, K), each row with the sum 1."""
    probabilities: NDArray[np.float64] = softmax(log_probs.astype(np.float64), axis=1)
    return probabilities


def _score_batch(
    engine: Engine, prompts: list[tuple[int, ...]], prefix: PrefixCache | None, labels_only: bool
) -> Tensor:
    """Score the labels of one batch of prompts, (B, K); ``prefix`` is used where all prompts continue it."""
    if prefix is not None and not all(_continues(prompt, prefix.ids) for prompt in prompts):
        prefix = None
    batch = collate(prompts, [engine.tree.tokens] * len(prompts), None if prefix is None else len(prefix.ids))
    with torch.inference_mode():
        if labels_only:
            return label_logits(engine, batch, prefix)
        logits = answer_logits(engine.model, engine.plan, batch, engine.tree, prefix)
        return label_log_probs(logits, engine.tree)


def _check_finite(engine: Engine, scores: NDArray[np.float32], prompt: tuple[int, ...], name: str) -> None:
    """Check that the scores (K,) of ``prompt`` order the labels; ``name`` is how the message calls the prompt.

    Raises:
        ModelError: a score is NaN or infinite, or none is above minus infinity.
    """
    if np.isfinite(scores.max()):  # NaN where any score is
        return
    template, plan = engine.template, engine.plan
    text = template.tokenizer.decode(prompt).rpartition(template.task.instruction)[2]
    if plan.compute_dtype == "float32":
        remedy = "the weights or the adapter hold numbers that are not finite, as after training with too high a rate"
    else:
        wider = "backbone.load_in=auto and backbone.compute_dtype=float32"
        remedy = f"{plan.compute_dtype} may have overflowed; set {wider}"
    raise ModelError(f"{name} ({shorten(text, 120)!r}) has scores that are not finite numbers: {remedy}")


def _continues(prompt: tuple[int, ...], prefix: tuple[int, ...]) -> bool:
    """Return whether ``prompt`` begins with ``prefix`` and has a token after it."""
    return len(prompt) > len(prefix) and prompt[: len(prefix)] == prefix
