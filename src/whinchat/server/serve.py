"""Run the server: load the classifiers, listen, and stop without losing an accepted request."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import uvicorn

from whinchat.errors import RunError
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost, ModelKey


def run_server(
    runs: Mapping[str, Path], host: str, port: int, limits: Limits, batch_size: int, on_ready: Callable[[str], object]
) -> None:
    """Serve classifiers over HTTP until the process gets SIGINT or SIGTERM.

    Args:
        runs: the runs by the names of the classifiers; the first is the default.
        host, port: the address to listen on; port 0 for any free port.
        limits: what the server accepts.
        batch_size: maximum number of texts in a batch.
        on_ready: called with the server's URL when it accepts requests.

    Raises:
        RunError: the address cannot be used, a run cannot be read, or the runs have different backbones.
        HubError: the hub has no such classifier, or cannot be reached.
        ModelError: a model cannot be loaded.
    """
    listening = listen(host, port)
    models = ModelHost.load(runs)
    for name in models.models:
        # The first prediction takes longer than the next ones; no client has to wait for it.
        models.predict(ModelKey(name), ["warm"])
    app = create_app(models.models, models.predict, limits, batch_size)
    config = uvicorn.Config(app, log_level="warning", lifespan="on")
    url_host = host if ":" not in host else f"[{host}]"
    on_ready(f"http://{url_host}:{listening.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address, so that an unusable address is found before a model is loaded."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Listening from now on: a client that connects as soon as it knows the address is not refused.
        listening.listen(2048)
    except OSError as fault:
        raise RunError(
            f"{host}:{port}: cannot be listened on ({fault.strerror}); choose another --port or --host"
        ) from None
    return listening
