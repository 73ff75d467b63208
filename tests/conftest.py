"""Tiny model folders, made once a session, and what all test processes have in common."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers import tiny_models
from tests.helpers.calendars import Calendar
from tests.helpers.command_line import Whinchat, command_runner
from tests.helpers.crash_lab import CrashLab
from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.quick_trials import try_nothing_out
from tests.helpers.shared_folders import make_once, shared_root

# pytest-xdist gives every core a process; tiny products gain nothing from a second thread, here or in a process that
# a test starts.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores these signals for what it starts in the background or under nohup. Tests send them.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


# Importing makes some million objects, all of which stay. Looking through them for garbage, time and again, would take
# a third of the tests' time.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from here on, but only among what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _no_figures() -> Iterator[None]:
    """Draw no figures outside tests/report: they take longer than a tiny model's run, and those tests draw them all."""
    with draw_no_figures():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_trials() -> Iterator[None]:
    """Try out no tokenizer or chat template outside tests/prompts/test_trial.py: the tests make their own."""
    with try_nothing_out():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_synchronization() -> Iterator[None]:
    """Do not wait for the disk: no test survives a power failure, and a finished run waits more than 100 times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinyLlama's architecture, tokenizer family and Zephyr template."""
    folder = shared_root(tmp_path_factory) / "tiny-llama"
    return make_once(folder, tiny_models.make_llama)


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite-Oute's architecture, byte-level BPE and ChatML."""
    folder = shared_root(tmp_path_factory) / "tiny-mistral"
    return make_once(folder, tiny_models.make_mistral)


@pytest.fixture(scope="session")
def tiny_mistral_inst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral-Instruct's template: no system role, and a BOS of its own."""
    folder = shared_root(tmp_path_factory) / "tiny-mistral-inst"
    return make_once(folder, tiny_models.make_mistral_inst)


@pytest.fixture(scope="session")
def tiny_llama_wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_llama`` with 64 hidden units, the least that NF4's blocks of 64 divide."""
    folder = shared_root(tmp_path_factory) / "tiny-llama-wide"
    return make_once(folder, lambda path: tiny_models.make_llama(path, hidden=64))


@pytest.fixture(params=tiny_models.BOTH)
def tiny_model(request: pytest.FixtureRequest) -> Path:
    """Each of the two architectures in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(params=[*tiny_models.BOTH, "tiny_mistral_inst"])
def any_model(request: pytest.FixtureRequest) -> Path:
    """Each of the three prompt styles in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="session")
def crash_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashLab]:
    """Runs commands and kills them at a system call; skipped without Linux and a C compiler."""
    with CrashLab(tmp_path_factory.mktemp("crash-lab")) as lab:
        yield lab


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    """Sets what day today is."""
    return Calendar(monkeypatch)


@pytest.fixture
def whinchat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Whinchat:
    """The command line, run in this process."""
    return command_runner(monkeypatch, capsys)
