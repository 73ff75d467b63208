"""What a recipe says: one frozen record for each of its six sections.

Names are those of transformers, PEFT and TRL wherever they have one. A default here is what most users want; the
shipped recipes in ``whinchat/recipes`` spell out what they depend on.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from whinchat.recipe.task import NonEmpty, Section, Task

DataFormat = Literal["auto", "tweeteval", "csv", "jsonl", "parquet", "hub"]
SplitName = Literal["validation", "test"]
MetricName = Literal["accuracy", "macro_f1", "macro_recall"]


class DataConfig(Section):
    """Where the texts come from and how they are divided."""

    source: NonEmpty = Field(
        description="A folder, a file, hub:OWNER/NAME, or package:NAME for a file inside a PyPI package."
    )
    format: DataFormat = Field("auto", description="How to read the source; auto looks at it.")
    config: str | None = Field(None, description="Configuration of a hub data set, such as sentiment.")
    revision: str | None = Field(None, description="Commit, tag or branch of a hub data set.")
    text_column: str = Field("text", description="Column that holds the text (CSV, JSONL, Parquet, hub).")
    label_column: str = Field("label", description="Column that holds the label (CSV, JSONL, Parquet, hub).")
    label_map: dict[str, str] = Field(
        default_factory=dict, description="Value in the source -> label of the task, where they differ."
    )
    train_rows: int | None = Field(None, ge=1, description="Use only the first N training rows; null for all.")
    validation_rows: int | None = Field(
        None, ge=1, description="First N validation rows; where the source has no such split, rows taken from train."
    )
    test_rows: int | None = Field(
        None, ge=1, description="First N test rows; where the source has no such split, rows taken from train."
    )
    split_seed: int = Field(0, ge=0, description="Seed of the split, where whinchat makes it.")
    drop_leaked: bool = Field(True, description="Drop from train what also stands in validation or test.")
    drop_duplicates: bool = Field(False, description="Keep only the first of equal texts within train.")


class BackboneConfig(Section):
    """The chat model, and how its weights are held."""

    model: NonEmpty = Field(description="A hub id, a local folder, or package:NAME for a file inside a PyPI package.")
    revision: str | None = Field(None, description="Commit, tag or branch on the hub; the resolved one is recorded.")
    load_in: Literal["auto", "float32", "bfloat16", "float16", "nf4"] = Field(
        "auto", description="How frozen weights are held; auto takes bfloat16 where the machine multiplies it fast."
    )
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Data type of the products; auto follows load_in and the machine."
    )
    double_quant: bool = Field(True, description="Quantize NF4's own scales once more (QLoRA, section 3).")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes an accelerator if there is.")
    attn_implementation: Literal["auto", "eager", "sdpa"] = Field(
        "auto", description="auto takes eager on a CPU, where it is faster on short texts, and sdpa elsewhere."
    )
    max_prompt_tokens: int = Field(
        512, ge=16, description="Longest prompt; a longer text is shortened at its end, instruction and answer never."
    )

    @model_validator(mode="after")
    def _dtypes(self) -> Self:
        if self.load_in in {"bfloat16", "float16"} and self.compute_dtype not in {"auto", self.load_in}:
            raise ValueError(
                f"compute_dtype: weights held in {self.load_in} are multiplied in it, found {self.compute_dtype}; "
                "set compute_dtype: auto, or load_in to float32 or nf4"
            )
        return self


class AdapterConfig(Section):
    """What is trained."""

    method: Literal["lora", "dora", "rslora"] = Field(
        "lora", description="Together with load_in: nf4, QLoRA and so on."
    )
    init: Literal["default", "pissa"] = Field(
        "default", description="pissa starts from the weight's top singular vectors."
    )
    r: int = Field(16, ge=1, le=1024, description="Rank.")
    lora_alpha: float = Field(32, gt=0, description="Scale: the update is multiplied by lora_alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input while training.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Names of the linear layers that get an adapter, or all-linear."
    )

    @model_validator(mode="after")
    def _targets(self) -> Self:
        if self.target_modules == ():
            raise ValueError("target_modules: the list is empty, so nothing would train; name layers or use all-linear")
        return self


class TrainConfig(Section):
    """How it is trained; the names and meanings are those of ``transformers.TrainingArguments``."""

    loss: Literal["completion", "choice"] = Field(
        "completion",
        description="completion: answer and end of turn, over the whole vocabulary; choice: softmax over the labels' "
        "sequence probabilities alone, so that free generation is left as it was.",
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="balanced weighs each label by 1 / its share; or one weight for each label."
    )
    logit_adjustment: float = Field(
        0.0,
        ge=0,
        le=2,
        description="For choice: train on scores plus so many times the log-share of each label, so that the scores "
        "themselves treat labels alike; 1 serves macro-recall.",
    )
    learning_rate: float = Field(5e-4, gt=0, le=1)
    loraplus_lr_ratio: float = Field(
        1.0, ge=1, le=64, description="LoRA+: B learns so many times faster than A; 1 for plain LoRA."
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"] = (
        "linear"
    )
    warmup_steps: float = Field(0.03, ge=0, description="Steps of warm-up; below 1, that share of all steps.")
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: int = Field(-1, ge=-1, description="Stop after so many steps; -1 for num_train_epochs.")
    per_device_train_batch_size: int = Field(16, ge=1)
    gradient_accumulation_steps: int = Field(1, ge=1)
    optim: str = "adamw_torch_fused"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0, description="Clip gradients to this norm; 0 for no clipping.")
    seed: int = Field(42, ge=0)
    logging_steps: int = Field(10, ge=1)
    eval_steps: float | None = Field(
        None, gt=0, description="Score validation every so many steps (below 1, that share); null for never."
    )
    eval_rows: int | None = Field(None, ge=1, description="First N validation rows while training; null for all.")
    save_steps: float = Field(0.25, gt=0, description="Write a checkpoint so often; below 1, that share of all steps.")
    save_total_limit: int = Field(2, ge=1)
    keep: Literal["last", "best"] = Field("last", description="best keeps the checkpoint with the best macro-F1.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a better macro-F1."
    )
    report_to: tuple[str, ...] = Field(
        (),
        description="Trackers, told of training and of the figures after it: tensorboard (in RUN/trackers), mlflow, "
        "wandb, trackio, or any other that transformers knows; each takes settings from its own environment variables.",
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        names = [given] if isinstance(given, str) else given
        return () if names == ["none"] else names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = {"keep: best": self.keep == "best", "early_stopping_patience": self.early_stopping_patience}
        needs_eval = [name for name, value in wanted.items() if value]
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
        if isinstance(self.class_weights, dict) and any(weight < 0 for weight in self.class_weights.values()):
            raise ValueError("class_weights: a weight is below zero; weights are zero or more")
        return self


class EvaluateConfig(Section):
    """How before and after are measured."""

    split: SplitName = Field("validation", description="Split that before and after are measured on.")
    rows: int | None = Field(None, ge=1, description="First N rows of that split; null for all.")
    generate: bool = Field(True, description="Also let the model answer freely, and report the invalid rate.")
    max_new_tokens: int = Field(16, ge=1, description="Longest free answer.")
    per_device_eval_batch_size: int = Field(64, ge=1)
    bootstrap_resamples: int = Field(2000, ge=100, description="Resamples behind each 95 % interval.")
    metric: MetricName = Field(
        "macro_f1", description="What calibrated answers shall be best at; labels are weighed by their shares for it."
    )
    wanted_accuracy: float | None = Field(
        None, gt=0, lt=1, description='Answer "unsure" below the confidence that reaches this accuracy; null for never.'
    )
    stress_rows: int = Field(
        200, ge=0, description="First N rows that are edited harmlessly and answered again; 0 for none."
    )
    seed: int = Field(0, ge=0, description="Seed of resampling, folds and edits.")


class Reference(Section):
    """Published figures that the report sets beside what was measured."""

    title: NonEmpty
    before_macro_f1: float | None = Field(None, ge=0, le=1)
    after_macro_f1: float | None = Field(None, ge=0, le=1)
    url: str | None = None


class Recipe(Section):
    """One recipe: everything that decides the outcome of a run."""

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")] = Field(
        description="Name of the run folder, unless --out says otherwise: letters, digits, dots, dashes, underscores."
    )
    description: str = Field("", description="One line, shown by `whinchat recipes list`.")
    task: Task
    data: DataConfig
    backbone: BackboneConfig
    adapter: AdapterConfig = AdapterConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    reference: Reference | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.train.class_weights, dict) and set(self.train.class_weights) != set(self.task.labels):
            raise ValueError(
                "train.class_weights: must name each label once; "
                f"found {', '.join(self.train.class_weights)}, labels are {', '.join(self.task.labels)}"
            )
        strangers = sorted(set(self.data.label_map.values()) - set(self.task.labels))
        if strangers:
            raise ValueError(
                f"data.label_map: {', '.join(strangers)} not in task.labels; labels are {', '.join(self.task.labels)}"
            )
        if self.adapter.init == "pissa" and self.train.weight_decay:
            raise ValueError("train.weight_decay: must be 0 with adapter.init: pissa, whose anchor must not decay")
        return self


_METHOD_NAMES = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}


def method_name(adapter: AdapterConfig, load_in: str) -> str:
    """The method as the literature names it: QLoRA for LoRA on 4-bit weights, and so on."""
    name = _METHOD_NAMES[adapter.method]
    if load_in == "nf4":
        name = f"Q{name}" if adapter.method in {"lora", "dora"} else f"{name} on NF4"
    return f"{name} from PiSSA" if adapter.init == "pissa" else name
