"""The container's files agree with the project: what they copy, install, start and mount is there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cli_commands import find_command
from whinchat.server.api_key import API_KEY_VARIABLE
from whinchat.server.api_schema import Limits

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in lines:
        name, _, argument = line.strip().partition(" ")
        assert re.fullmatch("[A-Z]+", name), line
        found.append((name, re.sub(r"\s+", " ", argument.strip())))
    return found


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    """The service of compose.yaml."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["volumes"]) == {"cache"}
    (only,) = compose["services"].values()
    return dict(only)


def last(instructions: list[tuple[str, str]], name: str) -> str:
    return [argument for instruction, argument in instructions if instruction == name][-1]


def command(instructions: list[tuple[str, str]]) -> list[str]:
    """Return what a container starts; a JSON list, so that no shell keeps the signals from the server."""
    return [*json.loads(last(instructions, "ENTRYPOINT")), *json.loads(last(instructions, "CMD"))]


def test_every_copied_file_is_there_and_in_the_context(instructions: list[tuple[str, str]]) -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = set()
    for name, argument in instructions:
        if name == "COPY" and "--from=" not in argument:
            copied |= set(shlex.split(argument)[:-1])
    assert copied
    assert all((ROOT / path).exists() for path in copied)
    # Nothing else is sent to the builder: no runs, no environments, no secrets.
    assert "*" in rules
    assert copied == allowed


def test_what_is_installed_exists(instructions: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = [argument for name, argument in instructions if name == "RUN" and "pip install" in argument]
    assert len(installs) == 2
    assert all("-c constraints.txt" in argument for argument in installs)
    # torch first, from the index of its CPU wheels, so that no CUDA library comes along.
    assert installs[0].endswith('--no-deps --index-url "$TORCH_INDEX" -c constraints.txt torch')
    extras = re.search(r'"\.\[([\w,]+)\]"', installs[1])
    assert extras
    assert {"serve"} <= set(extras[1].split(",")) <= set(project["optional-dependencies"])
    base = {argument.partition(" ")[0] for name, argument in instructions if name == "FROM"}
    (image,) = base
    version = re.search(r"python:(\d\.\d+)", image)
    assert version
    assert f">={version[1]}" == project["requires-python"]


def test_the_user_is_not_root(instructions: list[tuple[str, str]], service: dict[str, Any]) -> None:
    user = last(instructions, "USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    created = next(argument for name, argument in instructions if name == "RUN" and "useradd" in argument)
    assert f"--uid {user.partition(':')[0]} " in created
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_the_command_is_one_of_whinchat(instructions: list[tuple[str, str]]) -> None:
    program, *arguments = command(instructions)
    assert program == "whinchat"
    found = find_command(arguments)
    assert found is not None
    serve, rest = found
    names = {name for parameter in serve.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= names
    # Parsed as the program parses it, so that a wrong value is found, too.
    parsed = serve.make_context("serve", list(rest)).params
    assert parsed["runs"] == ["/model"]
    assert parsed["host"] == "0.0.0.0"
    assert f"localhost:{parsed['port']}/ready" in last(instructions, "HEALTHCHECK")
    assert last(instructions, "EXPOSE") == str(parsed["port"])


def test_health_check_is_a_program(instructions: list[tuple[str, str]]) -> None:
    _, _, check = last(instructions, "HEALTHCHECK").partition("CMD ")
    python, option, code = json.loads(check)
    assert (python, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")


def test_compose_fits_the_image(instructions: list[tuple[str, str]], service: dict[str, Any]) -> None:
    arguments = command(instructions)
    port = arguments[arguments.index("--port") + 1]
    # Only this machine reaches the port unless the file is changed.
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    run, cache = service["volumes"]
    assert run.endswith(f":{arguments[2]}:ro")
    assert cache == f"cache:{last(instructions, 'VOLUME')}"
    environment = last(instructions, "ENV")
    for variable in ("WHINCHAT_CACHE", "HF_HOME"):
        assert f"{variable}={last(instructions, 'VOLUME')}/" in environment
    assert API_KEY_VARIABLE in service["environment"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Limits().grace_seconds
