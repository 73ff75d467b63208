"""Find out how many layers of a model a task needs, before anything is trained.

L: layers of the model.
"""

import logging
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from whinchat.data.dataset import Split
from whinchat.data.learned_texts import count_learned
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError
from whinchat.evaluation.layer_probe import FOLDS, best_by_chance, fewest_layers, last_states, probe_states
from whinchat.models.backbone import find_model, load_backbone
from whinchat.models.forward import Engine
from whinchat.models.shallow_model import can_be_cut
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Task

DEFAULT_PROBE_ROWS = 400


@dataclass(frozen=True)
class LayerProbe:
    """How well a linear classifier tells the labels apart by what each layer of an untrained model computes.

    Attributes:
        model: ``backbone.model`` of the recipe.
        rows: number of training texts that were read.
        macro_f1: mean macro-F1 of each depth over the folds, for 1 to L layers; with questions, the mean over their
            decisions, apart from those whose answers are too rare.
        standard_error: standard error of each of them.
        chance: the macro-F1 that the best depth exceeds in one of 20 cases where texts say nothing about their labels.
        layers: the fewest layers whose macro-F1 is within one standard error of the best; None where no depth exceeds
            ``chance``, so that the probe recommends none.
        can_be_cut: whether ``backbone.layers`` takes this kind of model.
        seconds: how long the probe took, without loading the model.
        learned_texts: number of these texts that the model had learned before, so that its layers tell their labels
            apart too well; None where that is not known.
    """

    model: str
    rows: int
    macro_f1: tuple[float, ...]
    standard_error: tuple[float, ...]
    chance: float
    layers: int | None
    can_be_cut: bool
    seconds: float
    learned_texts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def probe_layers(recipe: Recipe, rows: int = DEFAULT_PROBE_ROWS) -> LayerProbe:
    """Probe each depth of the recipe's model on a few hundred training texts. Nothing is trained or written.

    A layer whose states tell the labels apart as well as any is deep enough to begin with. Fine-tuning changes the
    layers, so the proof of a depth is a run with ``backbone.layers``.

    Args:
        recipe: data, task and model.
        rows: how many training texts to read.

    Raises:
        DataError: the data cannot be read, or has too few rows of two labels.
        ModelError: the model cannot be loaded.
        PromptError: a prompt cannot be built.
    """
    corpus = load_corpus(recipe)
    order = list(range(len(corpus.train)))
    random.Random(recipe.train.seed).shuffle(order)
    train = corpus.train.take(sorted(order[:rows]))
    learned = count_learned(recipe.backbone.model, train)
    if learned:
        logging.getLogger("whinchat").warning(
            f"{recipe.backbone.model} has learned {learned:,} of the {len(train):,} probed texts before, so its "
            "layers tell their labels apart too well; probe a model that has not"
        )
    parts = _parts_to_probe(train, recipe)
    backbone = load_backbone(recipe.backbone, find_model(recipe.backbone))
    engine = Engine.build(backbone.model, backbone.plan, backbone.tokenizer.template(recipe))
    started = time.perf_counter()
    found = []
    for task, part in parts:
        own = engine.for_task(task)
        prompts = [prompt.ids for prompt in own.template.encode(part.texts, part.name)]
        states = last_states(own, prompts, recipe.evaluate.per_device_eval_batch_size)
        found.append(probe_states(states, part.labels))
    scores = np.mean([part.scores() for part in found], axis=0)  # (L + 1, F)
    chance = best_by_chance(found)
    return LayerProbe(
        model=recipe.backbone.model,
        rows=len(train),
        macro_f1=tuple(scores[1:].mean(axis=1).tolist()),
        standard_error=tuple((scores[1:].std(axis=1, ddof=1) / np.sqrt(FOLDS)).tolist()),
        chance=chance,
        layers=fewest_layers(scores) if scores[1:].mean(axis=1).max() > chance else None,
        can_be_cut=can_be_cut(backbone.source.path, backbone.source.revision),
        seconds=time.perf_counter() - started,
        learned_texts=learned,
    )


def _parts_to_probe(train: Split, recipe: Recipe) -> list[tuple[Task, Split]]:
    """Return the task, or that of each decision, with the rows that have an answer to it.

    Decisions are left out that have fewer than two labels with a row for each fold.

    Raises:
        DataError: there is none to probe.
    """
    task = recipe.task
    parts = [(task.of_decision(one), train.of_decision(index)) for index, one in enumerate(task.decisions)]
    kept = [
        (own, part)
        for own, part in parts or [(task, train)]
        if sum(count >= FOLDS for count in part.counts(own.labels).values()) > 1
    ]
    if not kept:
        raise DataError(
            f"{recipe.data.source}: {len(train)} rows were read, and fewer than two labels have {FOLDS} rows among "
            "them; read more with --rows, or add rows"
        )
    return kept
