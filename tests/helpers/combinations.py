"""Combinations of several settings, of which the fast tests try half."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import pytest


def half_of(*settings: Collection[Any]) -> list[Any]:
    """Return the parameters of all combinations of one value from each setting; every second is marked slow.

    Among the quick ones, each value of a setting still meets each value of every other, if there are three settings or
    more with two values or more: a fault that takes two settings is found by the fast tests.
    """
    numbers = itertools.product(*(range(len(values)) for values in settings))
    return [
        pytest.param(*values, marks=pytest.mark.slow if sum(at) % 2 else ())
        for at, values in zip(numbers, itertools.product(*settings), strict=True)
    ]
