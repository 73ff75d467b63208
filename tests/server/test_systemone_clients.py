"""Two clients of the System One protocol that others wrote find nothing wrong with a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from tests.helpers import finished_runs, tiny_models
from whinchat.pipelines.run import run
from whinchat.server.access_rules import AccessRules
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.serve import listen, server_config
from whinchat.server.served_models import ModelHost

jevcompat = pytest.importorskip("jevcompat.runner", reason="jevcompat is not installed; `pip install -e '.[dev]'`")
sdk = pytest.importorskip("typesafe_sdk", reason="typesafe-sdk is not installed; `pip install -e '.[dev]'`")

LIMITS = Limits()
KEY = "secret"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ModelHost:
    """A classifier whose tokenizer knows the words that jevcompat asks for, so that 255 options take few tokens."""
    folder = tmp_path_factory.mktemp("clients")
    texts = [f"- Queue {number:03d}: Tickets routed to queue {number}" for number in range(255)] * 3
    model = tiny_models.make_llama(folder / "model", texts=texts)
    source = finished_runs.write_csv(folder / "texts.csv")
    run(finished_runs.recipe_for(model, source), folder / "run")
    return ModelHost.load({"tiny": folder / "run"})


@contextmanager
def live(host: ModelHost, key: str | None) -> Iterator[str]:
    """Serve over HTTP in a thread, and give the address."""
    listening = listen("127.0.0.1", 0)
    rules = AccessRules.build("127.0.0.1", (), key)
    server = uvicorn.Server(server_config(create_app(host.models, host.predict, LIMITS, 32, rules), LIMITS))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(("key", "should"), [(None, 13), (KEY, 15)])
def test_jevcompat_says_conformant(host: ModelHost, key: str | None, should: int) -> None:
    with live(host, key) as address:
        report = jevcompat.run(address, key=key)
    faults = [finding for result in report.results for finding in result.findings]
    assert not faults
    assert report.verdict == "conformant"
    assert report.summary()["MUST"] == {"passed": 32, "failed": 0, "skipped": 1, "tested": 32}
    assert report.summary()["SHOULD"]["passed"] == should
    assert report.info["limits"] == {"choice options accepted up to": 255, "score levels accepted up to": 10}


def test_its_command_line(host: ModelHost) -> None:
    with live(host, None) as address:
        command = [sys.executable, "-m", "jevcompat.cli", "test", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MUST 32/32" in done.stdout


def test_the_official_client_reads_every_answer(host: ModelHost) -> None:
    levels = ["calm", {"label": "angry"}]
    questions = {
        "late": sdk.Noul(instructions="Is the train late?"),
        "team": sdk.Choice(instructions=["Which team?"], criteria={"trains": "All about trains", "tea": None}),
        "mood": sdk.Score(criteria=levels),
    }
    with live(host, KEY) as address:
        with sdk.TypeSafeClient(api_key=KEY, base_url=address) as client:
            found = client.system_one(state={"text": "late again"}, questions=questions)
            assert [model.name for model in client.models.list().models] == ["jev-latest", "tiny"]
            with pytest.raises(sdk.TypeSafeError, match="no classifier 'third'"):
                client.system_one(state="a", questions=questions, model="third")
            with pytest.raises(sdk.TypeSafeError, match=r"team\.choice.*: .*at least 2 items"):
                client.system_one(state="a", questions={"team": sdk.Choice(criteria={"one": None})})
        with (
            sdk.TypeSafeClient(api_key="wrong", base_url=address) as stranger,
            pytest.raises(sdk.TypeSafeError, match=r"401 .*no valid key"),
        ):
            stranger.system_one(state="a", questions=questions)
    assert found.model == "tiny"
    assert 0 < found.nouls["late"].noul < 1
    assert set(found.choices["team"].probabilities) == {"trains", "tea"}
    assert found.scores["mood"].legend == dict(enumerate(levels))
    assert found.scores["mood"].score == pytest.approx(found.scores["mood"].probabilities[1])
    assert found.usage.output_tokens == 3
    assert found.usage.input_tokens > 30
