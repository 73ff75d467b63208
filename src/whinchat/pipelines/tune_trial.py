"""Make one trial of a search for settings, and estimate what trials cost.

N: rows. K: labels.
"""

import gc
import time
from dataclasses import dataclass

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import DivergenceError, ScoresError
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.evaluation.question_scores import score_answered
from whinchat.evaluation.scoring import score_prompts
from whinchat.evaluation.validation_score import Floats, ValidationScore, score_decisions, score_labels
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.models.memory import give_back_memory
from whinchat.pipelines.run_schedule import SAMPLE_TEXTS, seconds_per_text, training_steps
from whinchat.pipelines.tune_data import TuneData
from whinchat.pipelines.tune_study import AskedTrial
from whinchat.progress import logger
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace, TrialSettings, trial_recipe
from whinchat.storage.tune_folder import TrialFolder
from whinchat.storage.tune_record import TrialState, TuneTrial
from whinchat.training.prepare import prepare_training
from whinchat.training.prune_callback import PruneByLoss, TrainingPruned
from whinchat.training.train import train
from whinchat.training.training_cost import TrainingCost, measure_training_cost

Prepared = tuple[Backbone, PromptTemplate]


@dataclass(frozen=True)
class TuneCost:
    """What trials cost on this machine, from a measured sample.

    Attributes:
        training: the cost of training at the highest rank.
        text_seconds: seconds to score a text.
        load_seconds: seconds to load the model.
        train_rows, validation_rows: rows to train on, and to judge on.
    """

    training: TrainingCost
    text_seconds: float
    load_seconds: float
    train_rows: int
    validation_rows: int

    def seconds(self, recipe: Recipe, settings: TrialSettings) -> float:
        """Return the estimated time of a whole trial of ``recipe`` with ``settings``."""
        own = trial_recipe(recipe, settings)
        steps = training_steps(own, self.train_rows)
        judged = self.validation_rows
        scored = judged + evaluations(own, self.train_rows) * min(own.train.eval_rows or judged, judged)
        batches = steps * own.train.gradient_accumulation_steps
        return self.load_seconds + batches * self.training.seconds_per_batch + scored * self.text_seconds


def evaluations(recipe: Recipe, rows: int) -> int:
    """Return how often a training on ``rows`` rows is evaluated."""
    every, steps = recipe.train.eval_steps or 1, training_steps(recipe, rows)
    return max(1, round(steps / every if every >= 1 else 1 / every))


def measure_trial_cost(
    recipe: Recipe, space: SearchSpace, corpus: Corpus, prepared: Prepared, load_seconds: float
) -> TuneCost:
    """Measure what trials cost, by a few texts and a few training batches; the model stays as it was.

    Args:
        recipe: the recipe as it is.
        space: the ranges; memory and time are those of the highest rank.
        corpus: the rows of the search.
        prepared: the model and its prompts, freshly loaded.
        load_seconds: how long loading took.
    """
    backbone, template = prepared
    own = trial_recipe(recipe, TrialSettings.of(recipe))
    adapter = own.adapter.model_copy(update={"r": max(space.ranks)})
    own = own.model_copy(update={"adapter": adapter})
    engine = Engine.build(backbone.model, backbone.plan, template)
    per_text, _ = seconds_per_text(engine, corpus.trained.texts[:SAMPLE_TEXTS], own)
    cost = measure_training_cost(engine, own, corpus.trained)
    return TuneCost(cost, per_text, load_seconds, len(corpus.trained), len(corpus.split("validation")))


def make_trial(
    recipe: Recipe, data: TuneData, asked: AskedTrial, folder: TrialFolder, prepared: Prepared | None
) -> tuple[TuneTrial, Floats | None]:
    """Train with the settings of a trial and judge the result on the validation rows.

    Args:
        recipe: the recipe as it is.
        data: the rows of the search.
        asked: the trial.
        folder: where its checkpoints are, from which an interrupted training goes on.
        prepared: the model and its prompts, freshly loaded; None to load them.

    Returns:
        The record of the trial, and what each validation row adds to its log-loss, (N,); None unless complete.
    """
    started = time.perf_counter()
    own = trial_recipe(recipe, asked.settings)
    backbone, template = prepared or prepare_training(own, data.corpus)
    state: TrialState = "complete"
    score: ValidationScore | None = None
    share: float | None = None
    try:
        engine, training = train(
            own, data.corpus, backbone, template, folder.checkpoints, folder.adapter,
            prune=PruneByLoss(asked.should_stop),
        )  # fmt: skip
        # Less than 1 where the recipe stops early.
        share = min(1.0, training.steps / training_steps(own, len(data.corpus.trained)))
        score = _judge(own, engine, data.validation)
    except TrainingPruned as stopped:
        state, share = "pruned", stopped.share
    except (DivergenceError, ScoresError) as fault:
        logger.info("Trial %d: %s", asked.number, str(fault).partition(";")[0])
        state = "diverged"
    record = TuneTrial(
        number=asked.number,
        settings=asked.settings,
        state=state,
        log_loss=None if score is None else score.log_loss,
        raw_log_loss=None if score is None else score.raw_log_loss,
        metric=None if score is None else score.metric,
        trained_share=share,
        seconds=time.perf_counter() - started,
    )
    return record, None if score is None else score.row_losses


def free_memory() -> None:
    """Free what a trial held. Trainer and model refer to each other, so only the garbage collector frees them."""
    gc.collect()
    give_back_memory()


def _judge(recipe: Recipe, engine: Engine, rows: Split) -> ValidationScore:
    """Judge a trained model on all validation rows."""
    batch_size, title = recipe.evaluate.per_device_eval_batch_size, "Judging"
    if not recipe.task.questions:
        prompts = engine.template.encode(rows.texts, rows.name)
        scores = score_prompts(engine, prompts, batch_size, title, labels_only=True)
        return score_labels(scores, rows, recipe.evaluate)
    engines = decision_engines(engine, recipe.task)
    asked = [own.template.encode(rows.texts, rows.name) for own in engines]
    of_decisions = score_answered(engines, asked, rows, batch_size, title)
    questions = [decision.question for decision in recipe.task.decisions]
    return score_decisions(of_decisions, rows, questions, recipe.evaluate)
