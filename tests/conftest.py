"""Tiny model folders, made once a session, and one core a test process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import tiny_models

# Two cores are shared with the other half of the machine; tiny products gain nothing from a second thread.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinyLlama's architecture, tokenizer family and Zephyr template."""
    return tiny_models.make_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite-Oute's architecture, byte-level BPE and ChatML."""
    return tiny_models.make_mistral(tmp_path_factory.mktemp("models") / "tiny-mistral")


@pytest.fixture(scope="session")
def tiny_mistral_inst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral-Instruct's template: no system role, and a BOS of its own."""
    return tiny_models.make_mistral_inst(tmp_path_factory.mktemp("models") / "tiny-mistral-inst")


@pytest.fixture(scope="session")
def tiny_llama_wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_llama`` with 64 hidden units, the least that NF4's blocks of 64 divide."""
    return tiny_models.make_llama(tmp_path_factory.mktemp("models") / "tiny-llama-wide", hidden=64)


@pytest.fixture(params=["tiny_llama", "tiny_mistral"])
def tiny_model(request: pytest.FixtureRequest) -> Path:
    """Each of the two architectures in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(params=["tiny_llama", "tiny_mistral", "tiny_mistral_inst"])
def any_model(request: pytest.FixtureRequest) -> Path:
    """Each of the three prompt styles in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder
