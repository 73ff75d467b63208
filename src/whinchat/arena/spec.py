"""What an arena is to measure: methods, sizes of the training set, seeds, and the recipe that they share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from whinchat.errors import RecipeError, nearest
from whinchat.recipe.loader import explain_faults, load_recipe, read_mapping
from whinchat.recipe.presets import PresetRegistry
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import NonEmpty, Section

ContestantKind = Literal["majority", "tfidf", "minilm", "prompting", "head", "adapter", "full"]
CONTESTANT_KINDS: tuple[ContestantKind, ...] = get_args(ContestantKind)
# What a reader would try before a chat model; the others are held against the best of them.
SIMPLE: tuple[ContestantKind, ...] = ("majority", "tfidf", "minilm")

ARENAS = PresetRegistry("an arena", "whinchat arena --list")
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]

# Every weight moves here, so each moves less: the rate is what chat models are usually fine-tuned with. LoRA+ is of
# adapters alone.
_FULL = ("train.learning_rate=5e-5", "train.loraplus_lr_ratio=1")
PRESETS: dict[str, dict[str, Any]] = {
    "majority": {"kind": "majority"},
    "tfidf": {"kind": "tfidf"},
    "minilm": {"kind": "minilm"},
    "zero-shot": {"kind": "prompting", "shots": 0},
    "few-shot": {"kind": "prompting", "shots": 4},
    "head-lora": {"kind": "head", "set": ["adapter.method=lora", "adapter.init=default"]},
    "lora": {"kind": "adapter", "set": ["adapter.method=lora", "adapter.init=default"]},
    "dora": {"kind": "adapter", "set": ["adapter.method=dora", "adapter.init=default"]},
    "rslora": {"kind": "adapter", "set": ["adapter.method=rslora", "adapter.init=default"]},
    "pissa": {"kind": "adapter", "set": ["adapter.method=lora", "adapter.init=pissa"]},
    "qlora": {"kind": "adapter", "set": ["backbone.load_in=nf4", "adapter.method=lora", "adapter.init=default"]},
    "qdora": {"kind": "adapter", "set": ["backbone.load_in=nf4", "adapter.method=dora", "adapter.init=default"]},
    "full": {"kind": "full", "set": list(_FULL)},
}
_NEEDS_DENSE = ("head-lora", "lora", "dora", "rslora", "pissa")


class Method(Section):
    """One contestant: a name of ``PRESETS``, or any name with a kind of its own."""

    name: Name = Field(description="Name in tables and figures; one of the presets brings kind, set and shots along.")
    kind: ContestantKind = Field(description="How it is trained and asked.")
    set: tuple[str, ...] = Field((), description="KEY=VALUE overrides of the recipe for this method.")
    shots: int = Field(0, ge=0, le=64, description="For prompting: examples of each label in the prompt.")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        fields = {"name": given} if isinstance(given, str) else given
        if not isinstance(fields, dict) or "kind" in fields or "name" not in fields:
            return fields
        name = fields["name"]
        if name not in PRESETS:
            raise ValueError(
                f"name: {name!r} is no method that comes with whinchat{nearest(str(name), PRESETS)} "
                f"There are {', '.join(PRESETS)}; with kind: {', '.join(CONTESTANT_KINDS)} any name will do"
            )
        preset = PRESETS[name]
        own = fields.get("set") or ()
        return preset | fields | {"set": [*preset.get("set", ()), *own] if isinstance(own, list | tuple) else own}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shots and self.kind != "prompting":
            raise ValueError(f"shots: only kind: prompting shows examples, this is {self.kind}; leave it out")
        return self

    @property
    def flat(self) -> bool:
        """Whether more training rows would change nothing."""
        return self.kind == "prompting"

    @property
    def seedless(self) -> bool:
        """Whether another seed would change nothing."""
        return self.kind == "prompting" and not self.shots


class ArenaSpec(Section):
    """One arena."""

    name: Name = Field(description="Name of the arena's folder, unless --out says otherwise.")
    description: str = Field("", description="One line, shown by `whinchat arena --list`.")
    recipe: NonEmpty = Field(description="Name or path of the recipe that every method starts from.")
    set: tuple[str, ...] = Field((), description="KEY=VALUE overrides of the recipe for all methods.")
    set_by_rows: dict[int, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Size of the training set -> KEY=VALUE for it, such as more epochs where rows are few.",
    )
    rows: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, description="Sizes of the training set.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (1, 2, 3), min_length=1, description="Each draws its own training rows; below three no claim is made."
    )
    methods: tuple[Method, ...] = Field(min_length=1, description="Names of presets, or name, kind, set and shots.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {"rows": self.rows, "seeds": self.seeds, "methods": tuple(method.name for method in self.methods)}
        for field, values in named.items():
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{field}: {', '.join(twice)} listed more than once; list each once")
        if strangers := sorted(set(self.set_by_rows) - set(self.rows)):
            raise ValueError(f"set_by_rows: {', '.join(map(str, strangers))} not in rows; they are {self.rows}")
        return self


@dataclass(frozen=True)
class ResolvedArena:
    """A spec with the recipe of each method at each size, by the method's name and the rows."""

    spec: ArenaSpec
    base: Recipe
    recipes: dict[tuple[str, int], Recipe]


def load_arena(name_or_path: str, overrides: Sequence[str] = ()) -> ArenaSpec:
    """Read an arena by shipped name, file or arena folder.

    Args:
        name_or_path: which.
        overrides: KEY=VALUE of the recipe, in the place of the arena's own for all methods or for a size.

    Raises:
        RecipeError: lists every fault, one a line, each with its path.
    """
    raw = read_mapping(
        name_or_path, ARENAS.text(name_or_path), "an arena is a mapping with name, recipe, rows, methods, ..."
    )
    try:
        spec = ArenaSpec.model_validate(raw)
    except ValidationError as faults:
        raise RecipeError(explain_faults(name_or_path, faults, ArenaSpec, "arena")) from None
    given = {_key(override) for override in overrides}
    by_rows = {rows: tuple(one for one in own if _key(one) not in given) for rows, own in spec.set_by_rows.items()}
    return spec.model_copy(update={"set": (*spec.set, *overrides), "set_by_rows": by_rows})


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def arena_to_yaml(spec: ArenaSpec) -> str:
    """The whole arena as YAML; ``load_spec`` reads it back to an equal one."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def resolve_arena(spec: ArenaSpec) -> ResolvedArena:
    """The recipe of every method, checked.

    Raises:
        RecipeError: a recipe is wrong, or a method would not be measured on the same rows as the others.
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
        recipes[method.name, rows] = _plain(recipe)
    if faults:
        # The same at every size, most of the time.
        raise RecipeError("\n".join(f"{spec.name}: methods: {fault}" for fault in dict.fromkeys(faults)))
    return ResolvedArena(spec, base, recipes)


def _unfair(method: Method, recipe: Recipe, base: Recipe) -> list[str]:
    """What keeps the method from being held against the others."""
    faults = []
    if (recipe.data, recipe.task.labels, recipe.evaluate) != (base.data, base.task.labels, base.evaluate):
        faults.append(
            "set: data.*, evaluate.* and task.labels must be the same for all methods; set them for the arena"
        )
    if recipe.train.seed != base.train.seed:
        faults.append("set: train.seed is the cell's own; list seeds under seeds")
    if method.name in _NEEDS_DENSE and recipe.backbone.load_in == "nf4":
        faults.append(
            "the recipe holds the model in nf4, which makes this another method; "
            "set backbone.load_in=auto for the arena and name qlora or qdora for NF4"
        )
    if method.kind in {"head", "full"} and recipe.backbone.load_in == "nf4":
        faults.append(f"kind: {method.kind} does not train on nf4; set backbone.load_in=auto")
    chosen = recipe.train.keep == "best" or recipe.train.early_stopping_patience is not None
    if chosen and method.kind in {"adapter", "full"} and recipe.evaluate.split == "validation":
        faults.append(
            "train.keep: best and early stopping choose on the validation rows, on which the arena measures; "
            "set evaluate.split=test or train.keep=last"
        )
    return faults


def _plain(recipe: Recipe) -> Recipe:
    """Without what only watches: it takes time and changes nothing."""
    if recipe.train.keep == "best" or recipe.train.early_stopping_patience is not None:
        return recipe
    quiet = {"eval_steps": None, "report_to": ()}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=quiet)})
