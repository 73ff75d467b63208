"""Load data, model and prompts, and check everything that could stop training before it starts."""

import logging
from dataclasses import replace
from pathlib import Path

from whinchat.data.checks import rare_answer_warnings, whitespace_leak_warning
from whinchat.data.dataset import Corpus
from whinchat.data.learned_texts import learned_rows, learned_warning
from whinchat.data.sources import load_corpus
from whinchat.errors import RecipeError
from whinchat.models.adapter_targets import plan_adapter
from whinchat.models.backbone import Backbone, find_model, load_backbone
from whinchat.models.capabilities import check_length
from whinchat.progress import logger
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.training.distributed import idle_gpus_note
from whinchat.training.trackers import check_trackers
from whinchat.training.trainer import training_arguments
from whinchat.training.training_needs import require_trainable


def prepare_run(recipe: Recipe) -> tuple[Corpus, Backbone, PromptTemplate]:
    """Load data, model and prompts; what is cheapest to check is checked first.

    Raises:
        WhinchatError: the data, the model or the recipe does not allow this run.
    """
    corpus = load_corpus(recipe)
    logger.info(corpus.describe_splits(recipe.evaluate.split))
    evaluated = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    learned = learned_rows(recipe.backbone.model, corpus.validation, evaluated)
    counts = {name: len(rows) for name, rows in learned.items()}
    corpus = replace(corpus, report=replace(corpus.report, learned=counts))
    spaces = whitespace_leak_warning(corpus.report.doubled_spaces, recipe.task.clean)
    before = learned_warning(recipe.backbone.model, learned)
    for warning in filter(None, (before, spaces, *rare_answer_warnings(corpus.train, recipe.task))):
        # The report says so too, but by then the training time has been spent.
        logging.getLogger("whinchat").warning(warning)
    backbone, template = prepare_training(recipe, corpus)
    template.check(evaluated.texts, evaluated.name)
    if recipe.evaluate.generate:
        check_length(backbone.model, template.max_prompt_tokens, recipe.evaluate.max_new_tokens)
    return corpus, backbone, template


def warn_of_learned(recipe: Recipe, corpus: Corpus) -> None:
    """Log a warning where the model had learned texts before that an estimator holds out to measure on."""
    model = recipe.backbone.model
    if warning := learned_warning(model, learned_rows(model, corpus.validation)):
        logging.getLogger("whinchat").warning(warning)


def prepare_training(recipe: Recipe, corpus: Corpus) -> tuple[Backbone, PromptTemplate]:
    """Load the model and its prompts to train on ``corpus``, and check everything that could stop training.

    Raises:
        DataError: there is no validation split to score during training, or fewer rows than processes.
        RecipeError: transformers refuses a training argument, or a tracker cannot be used.
        ModelError: the model cannot be loaded, or the adapter does not fit it.
        PromptError: there is no prompt for a text, or none at all.
    """
    require_trainable(recipe, corpus)
    check_trackers(recipe.train.report_to)
    backbone = load_backbone(recipe.backbone, find_model(recipe.backbone))
    # The adapter is attached after the first evaluation, so whether it fits is found out here.
    notes = (*backbone.plan.notes, *plan_adapter(backbone.model, recipe.adapter).notes)
    for note in filter(None, (*notes, idle_gpus_note(backbone.plan.device))):
        logger.info(note)
    try:
        # Built here only to fail now rather than after the first evaluation.
        training_arguments(recipe, backbone.plan, Path("checkpoints"))
    except ValueError as error:
        raise RecipeError(f"train: transformers refuses it: {' '.join(str(error).split())}; change that key") from None
    template = backbone.tokenizer.template(recipe)
    for split in filter(None, (corpus.trained, corpus.validation)):
        template.check(split.texts, split.name)
    return backbone, template
