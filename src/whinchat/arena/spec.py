"""What an arena measures: methods, sizes of the training set, seeds, and the recipe that all methods share."""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from whinchat.arena.contestant_registry import Family, contestant_kinds, find_kind
from whinchat.arena.encoder_config import ENCODER_KEYS, EncoderConfig, encoder_fault, unread_overrides
from whinchat.errors import RecipeError, WhinchatError, nearest
from whinchat.models.requirements import require_encoder, require_setfit
from whinchat.recipe.field_types import FolderName, Integer, NonEmpty, Section, Seed, Text
from whinchat.recipe.loader import SettingsFile, load_recipe
from whinchat.recipe.model_config import BackboneConfig
from whinchat.recipe.presets import PresetRegistry
from whinchat.recipe.schema import Recipe

ARENAS = PresetRegistry("an arena", "whinchat arena --list")

# Methods by name: a kind of contestant with its settings. Full fine-tuning trains every weight, so its learning rate is
# the one that chat models are usually fine-tuned with; LoRA+ applies to adapters alone.
PRESETS: dict[str, dict[str, Any]] = {
    "majority": {"kind": "majority"},
    "tfidf": {"kind": "tfidf"},
    "minilm": {"kind": "embeddings"},
    "bge-small": {"kind": "embeddings", "encoder": {"model": "BAAI/bge-small-en-v1.5"}},
    "setfit": {"kind": "setfit"},
    "minilm-full": {"kind": "encoder"},
    "minilm-lora": {"kind": "encoder", "encoder": {"method": "lora"}},
    "zero-shot": {"kind": "prompting", "shots": 0},
    "few-shot": {"kind": "prompting", "shots": 4},
    "head-lora": {
        "kind": "head",
        "set": ["adapter.method=lora", "adapter.init=default", "train.loraplus_lr_ratio=1"],
    },
    "lora": {"kind": "adapter", "set": ["adapter.method=lora", "adapter.init=default"]},
    "dora": {"kind": "adapter", "set": ["adapter.method=dora", "adapter.init=default"]},
    "rslora": {"kind": "adapter", "set": ["adapter.method=rslora", "adapter.init=default"]},
    "pissa": {"kind": "adapter", "set": ["adapter.method=lora", "adapter.init=pissa"]},
    "qlora": {"kind": "adapter", "set": ["backbone.load_in=nf4", "adapter.method=lora", "adapter.init=default"]},
    "qdora": {"kind": "adapter", "set": ["backbone.load_in=nf4", "adapter.method=dora", "adapter.init=default"]},
    "full": {"kind": "full", "set": ["train.learning_rate=5e-5", "train.loraplus_lr_ratio=1"]},
}
# What version 0.1.0 called the kind of the preset minilm, in arenas and records.
_KIND_OF_0_1_0 = "minilm"
_NEEDS_DENSE = ("head-lora", "lora", "dora", "rslora", "pissa")


class Method(Section):
    """A method of an arena: the name of a shipped method, or any name together with a kind."""

    name: FolderName = Field(
        description="Name in tables and figures; a preset's name stands for its kind, set and shots."
    )
    kind: Text = Field(description="Kind of contestant: a registered name, or a class as package.module:Class.")
    set: tuple[Text, ...] = Field((), description="KEY=VALUE overrides of the recipe for this method.")
    shots: Integer = Field(
        0,
        ge=0,
        le=64,
        description="For prompting: number of examples of each label in the prompt; of questions, of each "
        "answer to each decision.",
    )
    encoder: EncoderConfig | None = Field(
        None, description="For embeddings, setfit and encoder: the model and its training; null for the defaults."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, content: Any) -> Any:
        fields = {"name": content} if isinstance(content, str) else content
        if not isinstance(fields, dict) or not isinstance(name := fields.get("name"), str):
            return fields
        if fields.get("encoder", ...) is None:
            fields = {key: value for key, value in fields.items() if key != "encoder"}
        if fields.get("kind") == _KIND_OF_0_1_0:
            return fields | {"kind": "embeddings"}
        if "kind" in fields:
            return fields
        if name not in PRESETS:
            raise ValueError(
                f"name: {name!r} is no method that comes with whinchat{nearest(name, PRESETS)} "
                f"There are {', '.join(PRESETS)}; any other name needs a kind: "
                f"{', '.join(contestant_kinds())}, or your own package.module:Class"
            )
        preset = PRESETS[name]
        overrides = fields.get("set") or ()
        if isinstance(overrides, list | tuple):
            overrides = [*preset.get("set", ()), *overrides]
        merged = preset | fields | {"set": overrides}
        if isinstance(encoder := fields.get("encoder"), dict):
            merged["encoder"] = preset.get("encoder", {}) | encoder
        return merged

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            family = self.family
        except RecipeError as fault:
            raise ValueError(f"kind: {fault}") from None
        if self.shots and family != "prompting":
            raise ValueError(f"shots: only kind: prompting shows examples, this is {self.kind}; leave it out")
        if misplaced := encoder_fault(self.kind, self.encoder):
            raise ValueError(misplaced)
        return self

    @property
    def family(self) -> Family:
        """How the arena groups the method."""
        return find_kind(self.kind).family

    @property
    def encoder_settings(self) -> EncoderConfig:
        """The encoder of a kind that has one, by default MiniLM."""
        return self.encoder or EncoderConfig()

    @property
    def has_chat_model(self) -> bool:
        """Whether the method starts from the recipe's chat model."""
        return self.kind not in ENCODER_KEYS and self.family != "simple"

    @property
    def flat(self) -> bool:
        """Whether more training rows would change nothing."""
        return self.family == "prompting"

    @property
    def seedless(self) -> bool:
        """Whether another seed would change nothing."""
        return self.flat and not self.shots


class ArenaSpec(Section):
    """An arena: its recipe, and the methods, training set sizes and seeds to compare."""

    name: FolderName = Field(description="Name of the arena, and of its folder unless --out names another.")
    description: Text = Field("", description="One line, shown by `whinchat arena --list`.")
    recipe: NonEmpty = Field(description="Name or path of the recipe that every method starts from.")
    set: tuple[Text, ...] = Field((), description="KEY=VALUE overrides of the recipe for all methods.")
    set_by_rows: dict[Integer, tuple[Text, ...]] = Field(
        default_factory=dict,
        description="Size of the training set -> KEY=VALUE overrides at this size, such as more epochs.",
    )
    rows: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(min_length=1, description="Sizes of the training set.")
    seeds: tuple[Seed, ...] = Field(
        (1, 2, 3),
        min_length=1,
        description="Seeds of the trials; each draws its own training rows. Verdicts need three.",
    )
    methods: tuple[Method, ...] = Field(
        min_length=1, description="Names of shipped methods, or name, kind, set and shots."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lists = {"rows": self.rows, "seeds": self.seeds, "methods": tuple(method.name for method in self.methods)}
        for field, values in lists.items():
            if repeated := sorted({str(value) for value in values if values.count(value) > 1}):
                raise ValueError(f"{field}: {', '.join(repeated)} listed more than once; list each once")
        if unknown := sorted(set(self.set_by_rows) - set(self.rows)):
            raise ValueError(f"set_by_rows: {', '.join(map(str, unknown))} not in rows; they are {self.rows}")
        return self


@dataclass(frozen=True)
class ResolvedArena:
    """An arena with its recipes.

    Attributes:
        spec: the arena.
        base: the recipe without the settings of any method.
        recipes: the recipe of each method at each size, by the method's name and the number of rows.
    """

    spec: ArenaSpec
    base: Recipe
    recipes: dict[tuple[str, int], Recipe]

    def model_of(self, method: Method, rows: int) -> BackboneConfig | None:
        """Return the chat model or the encoder that ``method`` starts from at a size; None where it has no model."""
        if method.kind in ENCODER_KEYS:
            encoder = method.encoder_settings
            return BackboneConfig(model=encoder.model, revision=encoder.revision)
        return self.recipes[method.name, rows].backbone if method.has_chat_model else None


def list_arenas() -> dict[str, str]:
    """Return the names and descriptions of the arenas that come with whinchat."""
    return {name: load_arena(name).description for name in ARENAS.names()}


def load_arena(name_or_path: str, overrides: Sequence[str] = ()) -> ArenaSpec:
    """Read an arena.

    Args:
        name_or_path: name of an arena that comes with whinchat, a YAML file, or an arena's folder.
        overrides: KEY=VALUE overrides of the recipe; they replace the arena's own of the same key, for all methods and
            for a size.

    Raises:
        RecipeError: lists every fault, one a line, each with its path.
    """
    requirement = "an arena is a mapping with name, recipe, rows, methods, ..."
    file = SettingsFile.read(name_or_path, ARENAS.text(name_or_path), requirement, number_keys={"set_by_rows"})
    spec = file.checked(ArenaSpec, "arena")
    replaced = {_key(override) for override in overrides}
    by_rows = {
        rows: tuple(override for override in own if _key(override) not in replaced)
        for rows, own in spec.set_by_rows.items()
    }
    return spec.model_copy(update={"set": (*spec.set, *overrides), "set_by_rows": by_rows})


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def arena_to_yaml(spec: ArenaSpec) -> str:
    """Return the whole arena as YAML; ``load_arena`` reads an equal one from it."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def resolve_arena(spec: ArenaSpec) -> ResolvedArena:
    """Load and check the recipe of every method at every size.

    Raises:
        RecipeError: a recipe is wrong, or a method could not be compared with the others.
    """
    try:
        base = load_recipe(spec.recipe, spec.set)
    except RecipeError as fault:
        raise RecipeError("\n".join(f"{spec.name}: recipe: {line}" for line in str(fault).splitlines())) from None
    faults: list[str] = []
    recipes = {}
    for method, rows in itertools.product(spec.methods, spec.rows):
        try:
            recipe = load_recipe(spec.recipe, (*spec.set, *spec.set_by_rows.get(rows, ()), *method.set))
        except RecipeError as fault:
            faults += [f"{method.name}: {line}" for line in str(fault).splitlines()]
            continue
        faults += [f"{method.name}: {fault}" for fault in _unfair(method, recipe, base)]
        recipes[method.name, rows] = _unwatched(recipe)
    if faults:
        # A method mostly has the same fault at every size.
        raise RecipeError("\n".join(f"{spec.name}: methods: {fault}" for fault in dict.fromkeys(faults)))
    return ResolvedArena(spec, base, recipes)


def encoders_of(spec: ArenaSpec, methods: Collection[str]) -> dict[str, EncoderConfig]:
    """Return the encoder of each of ``methods`` that has one, by the method's name."""
    return {
        method.name: method.encoder_settings
        for method in spec.methods
        if method.kind in ENCODER_KEYS and method.name in methods
    }


def require_encoders(spec: ArenaSpec, methods: Collection[str]) -> None:
    """Check that the encoders of ``methods`` can be looked for, and that the packages that train them are installed.

    The hub is not asked, and nothing is loaded.

    Raises:
        RecipeError: lists what is missing, one method a line.
    """
    kinds = {method.name: method.kind for method in spec.methods}
    faults = []
    for name, encoder in encoders_of(spec, methods).items():
        try:
            require_encoder(encoder.model)
            if kinds[name] == "setfit":
                require_setfit()
        except WhinchatError as fault:
            faults.append(f"{spec.name}: methods: {name}: {fault}")
    if faults:
        raise RecipeError("\n".join(faults))


def _unfair(method: Method, recipe: Recipe, base: Recipe) -> list[str]:
    """Return the faults for which the method cannot be compared with the others, or cannot run."""
    faults = []
    if (recipe.data, _answers(recipe), recipe.evaluate) != (base.data, _answers(base), base.evaluate):
        faults.append(
            "set: data.*, evaluate.* and task.labels must be the same for all methods, as must names, types and "
            "options of task.questions; set them for the arena"
        )
    if recipe.data.soft_labels is not None:
        faults.append("set: data.soft_labels would teach some methods only; remove it from the recipe")
    if method.kind == "head" and recipe.task.questions:
        faults.append(
            "kind: head has one classification head, so it takes a task with labels only; leave it out, or compare it "
            "on a recipe whose task.labels are the options of one question"
        )
    if unread := unread_overrides(method.kind, [_key(override) for override in method.set]):
        own = "; its own settings stand under encoder" if method.kind in ENCODER_KEYS else ""
        faults.append(f"set: {', '.join(unread)} would change nothing for kind {method.kind}; leave it out{own}")
    if method.kind == "head":
        faults += _head_faults(recipe)
    if recipe.train.seed != base.train.seed:
        faults.append("set: every trial sets train.seed itself; list seeds under seeds")
    if method.name in _NEEDS_DENSE and recipe.backbone.load_in == "nf4":
        faults.append(
            "the recipe holds the model in nf4, which turns this into another method; "
            "set backbone.load_in=auto for the arena and name qlora or qdora for NF4"
        )
    if method.kind in {"head", "full"} and recipe.backbone.load_in == "nf4":
        faults.append(f"kind: {method.kind} does not train on nf4; set backbone.load_in=auto")
    if method.kind in {"head", "full"} and recipe.train.memory_budget is not None:
        faults.append(
            f"kind: {method.kind} trains weights beside an adapter, whose memory train.memory_budget does not "
            "estimate; set train.memory_budget=null for this method"
        )
    if _chooses(recipe) and method.kind in {"adapter", "full"} and recipe.evaluate.split != "test":
        faults.append(
            "train.keep: best and early stopping choose on the validation rows, on which the arena measures; "
            "set evaluate.split=test or train.keep=last"
        )
    return faults


def _head_faults(recipe: Recipe) -> list[str]:
    """Return the settings of ``recipe`` that a classification head with plain LoRA would not follow."""
    plain = {
        "adapter.method": (recipe.adapter.method, "lora"),
        "adapter.init": (recipe.adapter.init, "default"),
        "train.loraplus_lr_ratio": (recipe.train.loraplus_lr_ratio, 1),
        "train.logit_adjustment": (recipe.train.logit_adjustment, 0),
    }
    return [
        f"kind: head trains plain LoRA with a cross entropy, so it does not follow {key}={value}; add {key}={needed} "
        "to its set"
        for key, (value, needed) in plain.items()
        if value != needed
    ]


def _answers(recipe: Recipe) -> object:
    """Return what there is to answer: the labels, or name, type and options of each question."""
    questions = recipe.task.questions.items()
    return recipe.task.labels, [(name, question.type, question.names) for name, question in questions]


def _unwatched(recipe: Recipe) -> Recipe:
    """Return the recipe without evaluations and trackers during training, which take time and change nothing."""
    if _chooses(recipe):
        return recipe
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"eval_steps": None, "report_to": ()})})


def _chooses(recipe: Recipe) -> bool:
    """Whether training chooses a checkpoint by the validation rows."""
    return recipe.train.keep == "best" or recipe.train.early_stopping_patience is not None
