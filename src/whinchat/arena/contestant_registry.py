"""The registry of contestants: it maps the name of a kind to a class, which is imported when a trial needs it."""

import re
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal, get_args

from whinchat.errors import RecipeError, nearest

Family = Literal["simple", "prompting", "trained"]


@dataclass(frozen=True)
class ContestantKind:
    """One kind of contestant.

    ``target`` is the class, as ``package.module:Class``. By ``family``, ``simple`` methods are the baselines of all
    others; ``prompting`` methods train nothing, so an arena runs them once for all sizes of the training set.
    """

    target: str
    family: Family


_HERE = "whinchat.arena.contestants"
_KINDS: dict[str, ContestantKind] = {
    "majority": ContestantKind(f"{_HERE}.baselines:Majority", "simple"),
    "tfidf": ContestantKind(f"{_HERE}.baselines:TfIdf", "simple"),
    "embeddings": ContestantKind(f"{_HERE}.embeddings:Embeddings", "simple"),
    "setfit": ContestantKind(f"{_HERE}.setfit_tuning:SetFitTuning", "trained"),
    "encoder": ContestantKind(f"{_HERE}.encoder_tuning:EncoderTuning", "trained"),
    "prompting": ContestantKind(f"{_HERE}.chat_model:Prompting", "prompting"),
    "head": ContestantKind(f"{_HERE}.head_tuning:HeadTuning", "trained"),
    "adapter": ContestantKind(f"{_HERE}.chat_model:AdapterTuning", "trained"),
    "full": ContestantKind(f"{_HERE}.chat_model:FullTuning", "trained"),
}


def register_contestant(name: str, target: str, family: Family = "trained") -> None:
    """Let arenas of this process use ``kind: name``; the processes of their trials are told, too.

    An arena that is run by ``whinchat arena`` needs no registration: it names the class itself,
    ``kind: package.module:Class``.

    Args:
        name: the kind, such as ``naive-bayes``.
        target: the class, as ``package.module:Class``; a new Python process must be able to import it.
        family: how the arena groups the kind's methods.

    Raises:
        ValueError: the name is taken by another class, or a value is malformed.
    """
    kind = ContestantKind(target, family)
    well_formed = re.fullmatch(r"\w[\w.-]*", name) and re.fullmatch(r"[\w.]+:\w+", target)
    if not well_formed or family not in get_args(Family):
        raise ValueError(
            f"register_contestant: {name!r}, {kind}: expected a plain name, package.module:Class, a family"
        )
    if _KINDS.setdefault(name, kind) != kind:
        raise ValueError(f"register_contestant: {name!r} is {_KINDS[name].target} already; choose another name")


def contestant_kinds() -> tuple[str, ...]:
    """Return the names of all registered kinds."""
    return tuple(_KINDS)


def find_kind(name: str) -> ContestantKind:
    """Return a kind by its registered name, or by its class, ``package.module:Class``.

    Raises:
        RecipeError: the name is unknown, or the class cannot be imported or is no contestant.
    """
    if name in _KINDS:
        return _KINDS[name]
    if ":" not in name:
        raise RecipeError(
            f"{name!r} is no kind of contestant{nearest(name, _KINDS)} There are {', '.join(_KINDS)}; "
            "name your own class as package.module:Class"
        )
    family: Any = getattr(import_contestant(name), "family", None)
    if family not in get_args(Family):
        raise RecipeError(f"{name} is no contestant; derive the class from whinchat.arena.contestants.Contestant")
    return ContestantKind(name, family)


def import_contestant(target: str) -> Any:
    """Return the class ``package.module:Class``.

    Raises:
        RecipeError: the module cannot be imported, or lacks the class.
    """
    try:
        return resolve_name(target)
    except (ImportError, AttributeError, ValueError) as fault:
        raise RecipeError(
            f"{target} cannot be imported ({fault}); install its package, or add its folder to PYTHONPATH"
        ) from None
