"""The recipe: one frozen record for each of its sections, and the checks between their keys.

Keys have the names of transformers, PEFT and TRL wherever those libraries have one. The descriptions of the fields are
the reference of the recipe's keys (``docs/reference/recipe.md``).
"""

import datetime
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from whinchat.recipe.card_metadata import PROFANITY_LISTS, PublishConfig
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.field_types import (
    FolderName,
    Integer,
    Name,
    Real,
    Section,
    Seed,
    Text,
)
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig
from whinchat.recipe.question import Decision
from whinchat.recipe.question_checks import QUESTION_DEFAULTS, check_questions
from whinchat.recipe.setting_values import checked_value
from whinchat.recipe.task import Task

# A label that weighs less trains nothing in single precision.
LEAST_WEIGHT = 1e-6

SplitName = Literal["auto", "validation", "test"]
AnswerParser = Literal["exact", "first_word"]
# The metrics that ``evaluation.calibration`` can serve.
MetricName = Literal["accuracy", "macro_f1", "macro_recall"]
SliceName = Literal["length", "negation", "emoji", "capitals", "hashtag", "question_mark", "mention"]
StressEditName = Literal["typo", "lower_case", "mention", "link", "full_stop", "doubled_spaces"]


class TrainConfig(Section):
    """How the adapter is trained; names and meanings are those of ``transformers.TrainingArguments``."""

    loss: Literal["completion", "choice", "full"] = Field(
        "completion",
        description="completion: cross entropy of the answer and the end of turn over the whole vocabulary. choice: "
        "cross entropy over the labels alone, on log-probabilities of their answers; free generation stays untrained. "
        "full: cross entropy of every token of the conversation, instruction and text included, as trl.SFTTrainer "
        "computes it by default.",
    )
    class_weights: Literal["none", "balanced"] | dict[Text, Real] = Field(
        "none",
        description="Weight of each label in the loss: none for equal weights, balanced for weights inverse to the "
        "label's share of the training rows, or a mapping from label to weight.",
    )
    logit_adjustment: Real = Field(
        0.0,
        ge=0,
        le=2,
        description="With loss: choice, train on scores plus this factor times the log of each label's share, so that "
        "the scores themselves do not favour frequent labels (Menon et al. 2021); 1 suits macro recall, 0 is off.",
    )
    learning_rate: Real = Field(5e-4, gt=0, le=1, description="Highest learning rate of the schedule.")
    loraplus_lr_ratio: Real = Field(
        1.0, ge=1, le=64, description="LoRA+: learning rate of B divided by that of A; 1 for plain LoRA."
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"] = (
        Field("linear", description="Schedule of the learning rate.")
    )
    warmup_steps: Real = Field(0.03, ge=0, description="Steps of warm-up; a value below 1 is a share of all steps.")
    num_train_epochs: Real = Field(1.0, gt=0, le=100_000, description="Passes over the training rows.")
    max_steps: Integer = Field(-1, ge=-1, description="Stop after N optimizer steps; -1 to train for num_train_epochs.")
    per_device_train_batch_size: Integer = Field(16, ge=1, description="Texts in a batch of one process.")
    gradient_accumulation_steps: Integer = Field(
        1, ge=1, description="Batches whose gradients make one optimizer step."
    )
    memory_budget: Real | None = Field(
        None,
        gt=0,
        description="Memory in GB that training may take; each batch is computed in parts that are estimated to fit, "
        "with the gradients of the whole. null for no limit.",
    )
    optim: Text = Field("adamw_torch_fused", description="Optimizer, by its name in transformers.")
    weight_decay: Real = Field(0.0, ge=0, description="Weight decay of the optimizer.")
    max_grad_norm: Real = Field(1.0, ge=0, description="Clip gradients to this norm; 0 for no clipping.")
    seed: Seed = Field(42, description="Seed of the adapter's start, dropout and the order of the rows.")
    logging_steps: Integer = Field(10, ge=1, description="Log the loss every N steps.")
    eval_steps: Real | None = Field(
        None,
        gt=0,
        description="Score the validation rows every N steps; a value below 1 is a share of all steps, null for never.",
    )
    eval_rows: Integer | None = Field(
        None, ge=1, description="Score only the first N validation rows during training; null for all."
    )
    save_steps: Real = Field(0.25, gt=0, description="Save a checkpoint every N steps; below 1, a share of all steps.")
    save_total_limit: Integer = Field(
        2, ge=1, description="Number of checkpoints to keep; older checkpoints are deleted."
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="Adapter to keep: last for the end of training, best for the checkpoint with the best validation "
        "macro-F1 (needs eval_steps).",
    )
    early_stopping_patience: Integer | None = Field(
        None,
        ge=1,
        description="Stop after N evaluations without a better validation macro-F1 (needs eval_steps); null for never.",
    )
    report_to: tuple[Text, ...] = Field(
        (),
        description="Experiment trackers that receive the training log and the final metrics: tensorboard (writes to "
        "RUN/trackers), mlflow, wandb, trackio, or any other integration of transformers. Each tracker reads its own "
        "environment variables.",
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _tracker_names(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        return () if names == ["none"] else names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        requested = {"keep: best": self.keep == "best", "early_stopping_patience": self.early_stopping_patience}
        needs_eval = [name for name, value in requested.items() if value]
        if needs_eval and self.eval_steps is None:
            raise ValueError(f"eval_steps: {' and '.join(needs_eval)} need it; set eval_steps, for instance to 0.25")
        if self.logit_adjustment and self.loss != "choice":
            raise ValueError("logit_adjustment: only loss: choice compares labels; set train.loss: choice, or 0")
        if self.max_steps == 0:
            raise ValueError("max_steps: 0 would train nothing; give a number of steps, or -1 for num_train_epochs")
        for name in ("eval_steps", "save_steps"):
            steps = getattr(self, name)
            if steps is not None and steps > 1 and steps != int(steps):
                raise ValueError(f"{name}: {steps} is neither a whole number of steps nor a share of them below 1")
        weights = self.class_weights.values() if isinstance(self.class_weights, dict) else (1.0,)
        if min(weights, default=1) < 0:
            raise ValueError("class_weights: a weight is below zero; weights are zero or more")
        if max(weights, default=1) < LEAST_WEIGHT:
            raise ValueError(f"class_weights: no weight is above {LEAST_WEIGHT:g}, so nothing would train; raise one")
        return self


class EvaluateConfig(Section):
    """How the classifier is measured before and after training."""

    split: SplitName = Field(
        "auto",
        description="Split that is measured before and after training; auto takes test where there is one, else "
        "validation.",
    )
    rows: Integer | None = Field(None, ge=1, description="Measure only the first N rows of that split; null for all.")
    generate: bool = Field(True, description="Also measure freely written answers, and how often they are no label.")
    generation_rows: Integer | None = Field(
        None,
        ge=1,
        description="Let the model answer freely for N rows only, drawn at random from the measured rows with "
        "evaluate.seed; null for all of them. Label scores of the same rows then stand beside the free answers.",
    )
    parse: AnswerParser = Field(
        "exact",
        description="Which reading of freely written answers stands first in card and report; both are measured. "
        "exact: the whole answer must be a label. first_word: the label that occurs first in the answer counts.",
    )
    max_new_tokens: Integer = Field(16, ge=1, description="Longest freely written answer in tokens.")
    per_device_eval_batch_size: Integer = Field(64, ge=1, description="Texts in a batch of scoring or generation.")
    bootstrap_resamples: Integer = Field(
        2000, ge=100, le=100_000, description="Bootstrap resamples behind each 95 % interval."
    )
    metric: MetricName = Field(
        "macro_f1",
        description="Metric for which the classifier is calibrated. For macro_f1 and macro_recall, the probabilities "
        "favour rare labels if validation rows show that the metric gains from this. The predicted label is always the "
        "most probable one.",
    )
    wanted_accuracy: Real | None = Field(
        None,
        gt=0,
        lt=1,
        description='Answer "unsure" below a confidence that is chosen so that all other answers reach this accuracy '
        "on validation rows; null to always answer.",
    )
    slices: tuple[SliceName, ...] = Field(
        ("length", "negation", "capitals", "question_mark"),
        description="Kinds of text to measure separately: length (thirds by number of words), negation, "
        "emoji (or emoticon), capitals (a word in capitals), hashtag, question_mark, mention.",
    )
    stress_edits: tuple[StressEditName, ...] = Field(
        ("typo", "lower_case", "full_stop", "doubled_spaces"),
        description="Edits that should change no answer; the report counts the answers that change: typo, lower_case, "
        "mention (@user in front), link (at the end), full_stop (at the end), doubled_spaces.",
    )
    stress_rows: Integer = Field(
        200,
        ge=0,
        description="Edit N rows and answer them again; they are drawn at random with evaluate.seed. 0 for none.",
    )
    seed: Seed = Field(
        0, description="Seed of bootstrap resamples, cross-fitting folds, stress edits, and samples of rows."
    )


_SECTIONS: dict[str, type[Section]] = {
    "task": Task,
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": AdapterConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}


class Reference(Section):
    """Published results that card and report show beside the measured results."""

    title: Name = Field(description="Name of the publication, as shown.")
    before_macro_f1: Real | None = Field(None, ge=0, le=1, description="Published macro-F1 before training.")
    after_macro_f1: Real | None = Field(None, ge=0, le=1, description="Published macro-F1 after training.")
    url: Text | None = Field(None, description="Web address of the publication, which card and report link.")
    answered_by: Literal["score", "exact", "first_word"] | None = Field(
        None,
        description="How the publication got its answers, so that its figures stand beside the measured ones that they "
        "can be compared with: score for label scores or a classification head, exact or first_word for generated "
        "answers read as evaluate.parse does; null where the publication does not say.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Published values of recipe keys, such as train.learning_rate: 2e-4. Card and report say that a "
        "run is as published only if its recipe has these values, and list the values that differ.",
    )

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return {key: checked_value(_SECTIONS, key, value) for key, value in settings.items()}


class Recipe(Section):
    """Everything that decides the outcome of a run."""

    name: FolderName = Field(
        description="Name of the recipe and, unless --out names another, of the run folder: letters, digits, dots, "
        "dashes, underscores."
    )
    description: Text = Field("", description="One line that `whinchat recipes list` shows.")
    task: Task = Field(description="What the classifier decides about a text.")
    data: DataConfig = Field(description="Where the labelled texts come from, and how they are split.")
    backbone: BackboneConfig = Field(description="The chat model that is adapted.")
    adapter: AdapterConfig = Field(AdapterConfig(), description="The adapter that is trained.")
    train: TrainConfig = Field(TrainConfig(), description="How the adapter is trained.")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="How the classifier is measured.")
    reference: Reference | None = Field(None, description="Published results to show beside the measured ones.")
    publish: PublishConfig = Field(PublishConfig(), description="What the model card says beyond the measurements.")

    @model_validator(mode="before")
    @classmethod
    def _of_questions(cls, values: Any) -> Any:
        """Fill in what a task with questions has another default for."""
        task = values.get("task") if isinstance(values, dict) else None
        if not (isinstance(task, dict) and task.get("questions")):
            return values
        filled = {}
        for section, defaults in QUESTION_DEFAULTS.items():
            given = values.get(section, {})
            filled[section] = defaults | given if isinstance(given, dict) else given
        return values | filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_questions(
            self.task,
            self.data,
            self.train.loss,
            self.train.class_weights,
            generate=self.evaluate.generate,
            has_reference=self.reference is not None,
        )
        labels, weights = ", ".join(self.task.labels), self.train.class_weights
        if isinstance(weights, dict) and set(weights) != set(self.task.labels):
            missing = ", ".join(label for label in self.task.labels if label not in weights)
            others = ", ".join(name for name in weights if name not in self.task.labels)
            raise ValueError(
                f"train.class_weights: must name each label once; missing: {missing or 'none'}, unknown: "
                f"{others or 'none'}; labels are {labels}"
            )
        if unknown := sorted(set(self.data.label_map.values()) - set(self.task.labels)):
            raise ValueError(f"data.label_map: {', '.join(unknown)} not in task.labels; labels are {labels}")
        if self.data.soft_labels is not None and self.train.loss != "choice":
            raise ValueError(f"data.soft_labels: needs train.loss: choice, found {self.train.loss}")
        if self.publish.samples == "clean" and self.task.language not in PROFANITY_LISTS:
            raise ValueError(
                f"publish.samples: clean has no list of profanity for task.language {self.task.language}; lists: "
                f"{', '.join(PROFANITY_LISTS)}. Set publish.samples to all or none"
            )
        if self.adapter.init == "pissa" and self.train.weight_decay:
            raise ValueError(
                "train.weight_decay: must be 0 with adapter.init: pissa, because weight decay would pull the adapter "
                "away from its first weights"
            )
        return self

    def of_decision(self, decision: Decision) -> Self:
        """Return a recipe with labels that asks for ``decision`` alone, by which a decision is evaluated.

        A mapping of class weights gives the weight of each label, or for an option of a multi question that of yes.
        """
        question = self.task.questions[decision.question]
        weights = question.class_weights if question.class_weights is not None else self.train.class_weights
        if isinstance(weights, dict) and decision.option is not None:
            weights = {"no": 1.0, "yes": weights[decision.option]}
        data = self.data.model_copy(update={"answers": {}, "answer_map": {}})
        train = self.train.model_copy(update={"class_weights": weights})
        return self.model_copy(update={"task": self.task.of_decision(decision), "data": data, "train": train})

    def dated(self, day: datetime.date | None) -> Self:
        """Return the recipe with ``day`` as ``task.date``, unless the recipe has a date of its own."""
        return self if day is None or self.task.date is not None else self.with_date(day)

    def with_date(self, day: datetime.date | None) -> Self:
        """Return the recipe with ``day`` as ``task.date``; None where its prompts state no date."""
        return self.model_copy(update={"task": self.task.model_copy(update={"date": day})})
