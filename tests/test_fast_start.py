"""What spares CPU while a model is loaded leaves nothing changed."""

from __future__ import annotations

import gc

import pytest

from whinchat.fast_start import no_garbage_collection


@pytest.mark.parametrize("on", [True, False])
def test_the_search_for_garbage_is_as_before_afterwards(on: bool) -> None:
    was_on = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with no_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() is on
    finally:
        (gc.enable if was_on else gc.disable)()
