"""Train an adapter, from the last checkpoint if there is one, and save the adapter."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

from peft import load_peft_weights, set_peft_model_state_dict
from transformers import TrainerState

from whinchat.checksums import write_checksums
from whinchat.data.dataset import Corpus
from whinchat.models.adapter_targets import adapted_share
from whinchat.models.adapters import attach_adapter, count_parameters, save_adapter
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import keep_merged_weights
from whinchat.output_files import replace_folder, writing
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import Recipe
from whinchat.storage.training_result import TrainingResult, TrainPoint
from whinchat.training.checkpoints import checkpoint_step, last_checkpoint
from whinchat.training.distributed import wait_for_everyone
from whinchat.training.launch import process_rank, world_size
from whinchat.training.memory_callback import GiveBackMemory
from whinchat.training.prune_callback import PruneByLoss
from whinchat.training.stop_callback import StopAfterCheckpoint
from whinchat.training.trackers import Trackers
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments
from whinchat.training.training_progress import TrainingProgress


def train(
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    template: PromptTemplate,
    checkpoints: Path,
    adapter: Path,
    trackers: Trackers | None = None,
    prune: PruneByLoss | None = None,
) -> tuple[Engine, TrainingResult]:
    """Train an adapter on ``corpus.trained`` and save it; processes that were launched together train together.

    Training continues from the last checkpoint in ``checkpoints`` if there is one.

    Args:
        recipe: the settings.
        corpus: the data; its validation split is scored during training where ``train.eval_steps`` asks for it.
        backbone: the chat model. The adapter is attached to it.
        template: the prompts and answers.
        checkpoints: folder of the checkpoints.
        adapter: folder for the trained adapter in PEFT's format, its tokenizer and its recipe.
        trackers: experiment trackers to notify. The caller closes them.
        prune: may stop the training at an evaluation; None to train to the end.

    Returns:
        The engine with the trained adapter, which is not to be trained any further, and what training measured.

    Raises:
        DivergenceError: the loss, the gradients or the weights are not finite, or the loss has exploded.
        TrainingPruned: ``prune`` has stopped the training.
    """
    model = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    parameters, trainable = count_parameters(model)
    engine = Engine.build(model, backbone.plan, template)
    # A checkpoint stores the path of the best one, which must stay valid when another working directory resumes.
    checkpoints = checkpoints.resolve()
    with writing(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
    args = training_arguments(recipe, backbone.plan, checkpoints)
    trainer = AnswerTrainer(
        engine,
        recipe,
        corpus.trained,
        corpus.validation,
        args=args,
        callbacks=[*callbacks(recipe.train), *filter(None, (prune,))],
    )
    # Process 0 prepares the folder; only then can the others see which checkpoint to continue from.
    wait_for_everyone()
    checkpoint = last_checkpoint(checkpoints)
    first_step = checkpoint_step(checkpoint) if checkpoint else 0
    if checkpoint is not None and (state := _finished_state(checkpoint)) is not None:
        seconds = 0.0
        best = state.best_model_checkpoint if recipe.train.keep == "best" else None
        # Only the name is used, so the folder may have been moved since.
        set_peft_model_state_dict(model, load_peft_weights(str(checkpoints / Path(best or checkpoint).name)))
        if trackers is not None:
            trackers.resume(trainer.args, state, trainer.control, model)
    else:
        seconds, state = _run_trainer(trainer, checkpoint, trackers if process_rank() == 0 else None)
    trainer.check_weights()
    if process_rank() == 0:

        def save(draft: Path) -> None:
            # PEFT would put an adapter for the first layers on the whole model that it finds under the name.
            base = "" if recipe.backbone.layers else backbone.source.hub_id or backbone.source.name
            save_adapter(model, draft, base)
            backbone.traits.save(draft)
            template.chat_tokenizer().save_pretrained(draft)
            write_recipe(recipe, draft)
            write_checksums(draft)

        replace_folder(adapter, save)
    wait_for_everyone()
    # So the evaluation measures what the saved classifier will answer, bit for bit.
    keep_merged_weights(model, backbone.plan)
    rows_a_step = recipe.train.per_device_train_batch_size * recipe.train.gradient_accumulation_steps * world_size()
    all_rows = round(len(corpus.trained) * recipe.train.num_train_epochs)
    seen = min((state.global_step - first_step) * rows_a_step, all_rows)
    prompts = trainer.objective.prompts
    return engine, TrainingResult(
        steps=state.global_step,
        examples_per_second=seen / seconds if seconds and seen else None,
        parameters=parameters,
        trainable_parameters=trainable,
        resumed_from_step=first_step,
        truncated_texts=sum(prompt.truncated_tokens > 0 for prompt in prompts),
        escaped_texts=sum(prompt.escaped_control_tokens > 0 for prompt in prompts),
        history=_history(state.log_history),
        adapted_share=adapted_share(model),
        notes=tuple(filter(None, (trainer.batch_limit.note,))),
    )


def _run_trainer(trainer: AnswerTrainer, checkpoint: Path | None, trackers: Trackers | None) -> tuple[float, Any]:
    """Train, and return the wall-clock seconds and Trainer's last state."""
    if trackers is not None:
        trainer.add_callback(trackers)
    with StopAfterCheckpoint() as stop, closing(TrainingProgress()) as shown:
        trainer.add_callback(shown)
        trainer.add_callback(stop)
        if trainer.engine.plan.device == "cpu":
            trainer.add_callback(GiveBackMemory())
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return result.metrics.get("train_runtime", 0.0), trainer.state


def _finished_state(checkpoint: Path) -> Any:
    """Return the state in ``checkpoint`` if training ended with it, by its last step or early stopping; else None.

    Trainer cannot tell: resumed from such a checkpoint, it takes one more step before it looks whether to stop.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"] else None


def _history(log: list[dict[str, Any]]) -> tuple[TrainPoint, ...]:
    names = ("loss", "learning_rate", "grad_norm", "eval_loss", "eval_macro_f1")
    return tuple(
        TrainPoint(
            step=entry["step"],
            epoch=entry["epoch"],
            # JSON has no NaN, so a value that is not finite counts as not measured.
            **{name: entry[name] for name in names if name in entry and math.isfinite(entry[name])},
        )
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    )
