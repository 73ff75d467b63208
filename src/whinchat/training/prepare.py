"""Load data, model and prompts, and check everything that could stop training before it starts."""

from __future__ import annotations

import logging
from pathlib import Path

from whinchat.data.checks import whitespace_leak_warning
from whinchat.data.dataset import Corpus
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RecipeError
from whinchat.models.adapters import check_targets
from whinchat.models.backbone import Backbone, find_model, load_backbone
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.training.launch import world_size
from whinchat.training.trackers import check_trackers
from whinchat.training.trainer import training_arguments


def prepare_run(recipe: Recipe) -> tuple[Corpus, Backbone, PromptTemplate]:
    """Data, model and prompt, in the order in which a mistake is cheapest to find."""
    corpus = load_corpus(recipe)
    corpus.split(recipe.evaluate.split)
    if told := whitespace_leak_warning(corpus.report.doubled_spaces, recipe.task.clean):
        # Said before hours are spent, too.
        logging.getLogger("whinchat").warning(told)
    return corpus, *prepare_training(recipe, corpus)


def prepare_training(recipe: Recipe, corpus: Corpus) -> tuple[Backbone, PromptTemplate]:
    """Model and prompt to train on ``corpus``, once everything that could stop training has been looked at."""
    if recipe.train.eval_steps is not None and corpus.validation is None:
        raise DataError(
            f"{recipe.data.source}: has no validation split to watch while training; set data.validation_rows to take "
            "one from train, or train.eval_steps=null"
        )
    if (together := world_size()) > len(corpus.train):
        raise DataError(
            f"{recipe.data.source}: has fewer rows to train on ({len(corpus.train)}) than processes that train them "
            f"({together}); start fewer (accelerate launch --num_processes)"
        )
    check_trackers(recipe.train.report_to)
    backbone = load_backbone(recipe.backbone, find_model(recipe.backbone))
    check_targets(backbone.model, recipe.adapter)
    try:
        training_arguments(recipe, backbone.plan, Path("checkpoints"))
    except ValueError as fault:
        # Found now and not after the first evaluation.
        raise RecipeError(f"train: transformers refuses it: {' '.join(str(fault).split())}; change that key") from None
    return backbone, backbone.tokenizer.template(recipe)
