"""Exact log P(answer | prompt) of every label, for answers of one token or several.

B: rows of a batch. C: columns of logits that are read. V: vocabulary. K: labels, of all questions. R: prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from textwrap import shorten

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from whinchat.errors import ScoresError
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
    """Sum the token log-probabilities along each label's path, (B, K), from logits (B, C, V).

    The probabilities are normalized over the whole vocabulary, so those of a question's labels sum to at most one. The
    rest is the probability that the model says something else.
    """
    normalizer = logits.logsumexp(dim=-1)  # (B, C)
    log_probs = []
    for path in tree.paths:
        columns = [column for column, _ in path]
        tokens = [token for _, token in path]
        log_probs.append((logits[:, columns, tokens] - normalizer[:, columns]).sum(dim=1))
    return torch.stack(log_probs, dim=1)


def label_logits(
    engine: Engine, batch: Batch, prefix: PrefixCache | None = None, tree: AnswerTree | None = None
) -> Tensor:
    """Compute ``label_log_probs`` up to a constant of each row and question, (B, K): enough to compare the labels.

    Where every answer is one token, the labels are normalized among themselves, and the logits of the rest of the
    vocabulary are not computed.

    Args:
        engine: the model and the answers of its prompts.
        batch: prompts with the nodes of ``tree``.
        prefix: the cache of ``batch.prefix``; None to compute the prefix with the batch.
        tree: the answers; None for those of the engine.
    """
    tree = engine.tree if tree is None else tree
    vocabulary = tree.label_tokens
    logits = answer_logits(engine.model, engine.plan, batch, tree, prefix, vocabulary)
    if vocabulary is None:
        return label_log_probs(logits, tree)
    columns, places = tree.label_places
    scores = logits[:, columns, places]
    return torch.cat([part.log_softmax(dim=-1) for part in scores.split(tree.sizes, dim=1)], dim=1)


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
        ScoresError: the scores of a prompt are not finite.
        ModelError: a single prompt does not fit into memory.
    """
    ids = [prompt.ids for prompt in prompts]

    def score_rows(rows: list[int]) -> NDArray[np.float32]:
        chosen = prefix if prefix is not None and all(continues(ids[row], prefix.ids) for row in rows) else None
        known = None if chosen is None else len(chosen.ids)
        batch = collate([ids[row] for row in rows], [engine.tree.tokens] * len(rows), known)
        return score_batch(engine, batch, engine.tree, chosen, labels_only=labels_only)

    def check(row: int, scores: NDArray[np.float32]) -> None:
        check_scores(engine, scores, ids[row], f"{title}: text {row}")

    batches = by_length([len(tokens) for tokens in ids], batch_size, batch_shares(engine, len(ids), deterministic))
    with bar_for(title, len(ids), bar) as shown:
        shape = len(ids), len(engine.tree.paths)
        return score_in_batches(engine, batches, shape, score_rows, check, shown.update, deterministic=deterministic)


def batch_shares(engine: Engine, rows: int, deterministic: bool) -> int:
    """Return into how many equal shares ``rows`` rows are cut at least, so that every core has work."""
    return 1 if deterministic else max(1, min(_cores(engine), rows // _MIN_ROWS_PER_CORE))


def score_in_batches(
    engine: Engine,
    batches: Sequence[list[int]],
    shape: tuple[int, int],
    score_rows: Callable[[list[int]], NDArray[np.float32]],
    check: Callable[[int, NDArray[np.float32]], None],
    advance: Callable[[int], None],
    *,
    deterministic: bool,
) -> NDArray[np.float32]:
    """Score batches of rows, several at a time on the cores of a CPU, and halve those that do not fit into memory.

    Args:
        engine: the model.
        batches: the rows of each batch.
        shape: rows in all, and scores of a row.
        score_rows: returns the scores of some rows of a batch.
        check: raises an error where the scores of a row are no answer.
        advance: called with the number of rows of each batch that is done.
        deterministic: as for ``score_prompts``.

    Returns:
        The scores of all rows, in their order.
    """
    scores = np.full(shape, np.nan, dtype=np.float32)
    cores = _cores(engine)
    workers = max(1, min(cores, len(batches)))

    def score(rows: list[int]) -> int:
        scores[rows] = np.concatenate(engine.batch_limit.compute(len(rows), lambda part: score_rows(rows[part])))
        for row in rows:
            check(row, scores[row])
        return len(rows)

    with ExitStack() as stack:
        stack.enter_context(inference(engine.model))
        scored: Iterator[int] = map(score, batches)
        # A new thread has none of torch's caches yet, so a single batch stays in this thread.
        if workers > 1 or deterministic:
            # torch sets the number of threads of its operations for each calling thread.
            threads = 1 if deterministic else cores // workers
            pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
            scored = stack.enter_context(pool).map(score, batches)
            # After Ctrl-C, batches that have not begun are not computed any more.
            stack.callback(pool.shutdown, cancel_futures=True)
        for rows in scored:
            advance(rows)
    return scores


def score_batch(
    engine: Engine, batch: Batch, tree: AnswerTree, prefix: PrefixCache | None, *, labels_only: bool
) -> NDArray[np.float32]:
    """Score the labels of one batch, (B, K); arguments as for ``label_logits`` and ``score_prompts``."""
    with torch.inference_mode():
        if labels_only:
            return label_logits(engine, batch, prefix, tree).cpu().numpy()
        logits = answer_logits(engine.model, engine.plan, batch, tree, prefix)
        return label_log_probs(logits, tree).cpu().numpy()


def bar_for(title: str, count: int, bar: Progress | None, unit: str = "texts") -> AbstractContextManager[Progress]:
    """Return a bar that is closed at the end of ``with``, or the caller's own, which stays open."""
    return progress(title, count, unit) if bar is None else nullcontext(bar)


def _cores(engine: Engine) -> int:
    return torch.get_num_threads() if engine.plan.device == "cpu" else 1


def label_probabilities(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalize log-probabilities (R, K) over the labels: probabilities, (R, K), each row with the sum 1."""
    probabilities: NDArray[np.float64] = softmax(log_probs.astype(np.float64), axis=1)
    return probabilities


def check_scores(engine: Engine, scores: NDArray[np.float32], prompt: tuple[int, ...], name: str) -> None:
    """Check that the scores (K,) of ``prompt`` order the labels; ``name`` is how the message calls the prompt.

    Raises:
        ScoresError: a score is NaN or infinite, or none is above minus infinity.
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
    raise ScoresError(f"{name} ({shorten(text, 120)!r}) has scores that are not finite numbers: {remedy}")


def continues(prompt: tuple[int, ...], prefix: tuple[int, ...]) -> bool:
    """Return whether ``prompt`` begins with ``prefix`` and has a token after it."""
    return len(prompt) > len(prefix) and prompt[: len(prefix)] == prefix
