"""One training run: from checkpoint to checkpoint to an adapter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from peft import load_peft_weights, set_peft_model_state_dict
from transformers import TrainerState

from whinchat.data.dataset import Corpus
from whinchat.models.adapters import attach_adapter, count_parameters, save_adapter
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import Recipe
from whinchat.storage.training_result import TrainingResult, TrainPoint
from whinchat.training import distributed
from whinchat.training.checkpoints import last_checkpoint
from whinchat.training.launch import process_rank, world_size
from whinchat.training.trackers import Trackers
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments


def train(
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    template: PromptTemplate,
    checkpoints: Path,
    adapter: Path,
    told: Trackers | None = None,
) -> tuple[Engine, TrainingResult]:
    """Train an adapter, from the last checkpoint if there is one, and save it; together with the other processes.

    Args:
        recipe: what to do.
        corpus: its data.
        backbone: its model, which gets the adapter.
        template: its prompts.
        checkpoints: folder of the states to resume from.
        adapter: folder the trained adapter goes to, in PEFT's format, with its tokenizer.
        told: who is told of it; whoever made them ends them.
    """
    model = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    parameters, trainable = count_parameters(model)
    engine = Engine.build(model, backbone.plan, template)
    # Checkpoints name the best one by its path, which must hold when the run is resumed from another folder.
    checkpoints = checkpoints.resolve()
    trainer = AnswerTrainer(
        engine,
        recipe,
        corpus.train,
        corpus.validation,
        args=training_arguments(recipe, backbone.plan, checkpoints),
        callbacks=callbacks(recipe.train),
    )
    # What is there to resume from is known once the first process has opened the folder.
    distributed.wait_for_everyone()
    checkpoint = last_checkpoint(checkpoints)
    started = _step_of(checkpoint) if checkpoint else 0
    if checkpoint is not None and (state := _ended(checkpoint)) is not None:
        seconds = 0.0
        best = state.best_model_checkpoint if recipe.train.keep == "best" else None
        # By name, so that it is found wherever the folder has gone since.
        set_peft_model_state_dict(model, load_peft_weights(str(checkpoints / Path(best or checkpoint).name)))
        if told is not None:
            told.take_up(trainer.args, state, trainer.control, model)
    else:
        if told is not None and process_rank() == 0:
            trainer.add_callback(told)
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds, state = result.metrics.get("train_runtime", 0.0), trainer.state
    if process_rank() == 0:
        save_adapter(model, adapter, backbone.source.hub_id or backbone.source.path)
        backbone.tokenizer.tokenizer.save_pretrained(adapter)
        write_recipe(recipe, adapter)
    distributed.wait_for_everyone()
    per_step = recipe.train.per_device_train_batch_size * recipe.train.gradient_accumulation_steps * world_size()
    seen = min((state.global_step - started) * per_step, round(len(corpus.train) * recipe.train.num_train_epochs))
    prompts = [example.prompt for example in trainer.train_dataset]
    return engine, TrainingResult(
        steps=state.global_step,
        examples_per_second=seen / seconds if seconds and seen else None,
        parameters=parameters,
        trainable_parameters=trainable,
        resumed_from_step=started,
        truncated_texts=sum(prompt.truncated_tokens > 0 for prompt in prompts),
        escaped_texts=sum(prompt.escaped_control_tokens > 0 for prompt in prompts),
        history=_history(state.log_history),
    )


def _ended(checkpoint: Path) -> Any:
    """The state in ``checkpoint`` if training was over with it, by its last step or by early stopping; else None.

    Trainer itself would go on: it looks whether to stop only after one more step.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"] else None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _history(log: list[dict[str, Any]]) -> tuple[TrainPoint, ...]:
    names = ("loss", "learning_rate", "grad_norm", "eval_loss", "eval_macro_f1")
    points = (
        TrainPoint(
            step=entry["step"],
            epoch=entry["epoch"],
            # JSON has no NaN: a value that is none was not measured.
            **{name: entry[name] for name in names if name in entry and math.isfinite(entry[name])},
        )
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    )
    return tuple(points)
