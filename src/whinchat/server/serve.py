"""Run the server: load the classifiers, listen, and stop without losing an accepted request."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn

from whinchat.server.access_log import LogFormat, write_access_log
from whinchat.server.access_rules import AccessRules
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.batcher import CHECK_TEXT
from whinchat.server.http_protocol import LimitedProtocol
from whinchat.server.served_models import ModelHost, ModelKey
from whinchat.server.startup import listen


def run_server(  # noqa: PLR0913  # the options of `whinchat serve`
    runs: Mapping[str, Path],
    host: str,
    port: int,
    limits: Limits,
    batch_size: int,
    on_ready: Callable[[str], object],
    *,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    api_key: str | None = None,
    log_format: LogFormat | None = None,
) -> None:
    """Serve classifiers over HTTP until the process gets SIGINT or SIGTERM.

    Args:
        runs: the runs by the names of the classifiers; the first is the default.
        host, port: the address to listen on; port 0 for any free port.
        limits: what the server accepts.
        batch_size: maximum number of texts in a batch.
        on_ready: called with the server's URL when it accepts requests.
        allowed_hosts: names of the server besides ``host`` and those of this machine, such as that of a proxy.
        allowed_origins: sites whose pages may send requests from a browser (CORS), such as https://app.example.com.
        api_key: the key that requests must have; None for no key.
        log_format: format of the access log on standard error; None for no access log.

    Raises:
        RunError: the address cannot be used, a run cannot be read, or the runs have different backbones.
        HubError: the hub has no such classifier, or cannot be reached.
        ModelError: a model cannot be loaded.
        WhinchatError: an origin is none, or the key cannot be sent in a header.
    """
    rules = AccessRules.build(host, allowed_hosts, api_key, allowed_origins)
    if log_format is not None:
        write_access_log(log_format)
    listening = listen(host, port)
    models = ModelHost.load(runs)
    for name in models.models:
        # The first prediction takes longer than the next ones; no client has to wait for it.
        models.predict(ModelKey(name), [CHECK_TEXT])
    app = create_app(models.models, models.predict, limits, batch_size, rules)
    if api_key is None and rules.is_public:
        logging.getLogger("whinchat").warning(
            f"{host}: whoever can reach this address can use the server; set WHINCHAT_API_KEY to ask for a key"
        )
    url_host = host if ":" not in host else f"[{host}]"
    on_ready(f"http://{url_host}:{listening.getsockname()[1]}")
    uvicorn.Server(server_config(app, limits)).run(sockets=[listening])


def server_config(app: object, limits: Limits) -> uvicorn.Config:
    """Return the settings of uvicorn for ``app``."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI application
        log_level="warning",
        log_config=None,  # the program's own
        lifespan="on",
        # uvicorn calls the class, and a call is all that it asks of it.
        http=cast(type[asyncio.Protocol], partial(LimitedProtocol, limits)),
        ws="none",
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=limits.grace_seconds,
    )
