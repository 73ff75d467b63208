"""The server's process: load, listen, answer, and end without losing what was accepted."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvicorn

from whinchat.errors import RunError
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost, ModelKey


def parse_run_names(runs: Sequence[str]) -> dict[str, Path]:
    """Runs by the names they are asked by: that of the folder, or the one before ``=``.

    Raises:
        RunError: two of them have one name.
    """
    found: dict[str, Path] = {}
    for one in runs:
        name, told, path = one.partition("=")
        folder = Path(path if told else one)
        name = name if told else folder.resolve().name
        if name in found:
            raise RunError(f"{one}: {name!r} is the name of {found[name]} already; name it otherwise: OTHER={folder}")
        found[name] = folder
    return found


def serve(
    runs: Mapping[str, Path],
    host: str,
    port: int,
    limits: Limits,
    batch_size: int,
    ready: Callable[[str], object],
) -> None:
    """Answer until the process is told to stop (SIGINT, SIGTERM); ``ready`` is told the address.

    Raises:
        RunError: the address cannot be had, or ``runs`` cannot be served together.
        ModelError: a model cannot be loaded.
    """
    listening = listen(host, port)
    classifiers = ModelHost.load(runs)
    for name in classifiers.hosted:
        # What is loaded or compiled at the first text is so before anybody waits for it.
        classifiers.answer(ModelKey(name), ["warm"])
    app = create_app(classifiers.hosted, classifiers.answer, limits, batch_size)
    config = uvicorn.Config(app, log_level="warning", lifespan="on")
    shown = host if ":" not in host else f"[{host}]"
    ready(f"http://{shown}:{listening.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket of that address, before minutes are spent on loading a model."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        # At once, so that nobody who is told the address comes too early.
        made.listen(2048)
    except OSError as fault:
        raise RunError(
            f"{host}:{port}: cannot be listened on ({fault.strerror}); choose another --port or --host"
        ) from None
    return made
