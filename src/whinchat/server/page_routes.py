"""The routes of the browser page and of a run's pages, and those that watch the server."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse

from whinchat.server.api_schema import ErrorResponse
from whinchat.server.batcher import Batcher
from whinchat.server.response_watch import FIGURE_POLICY, STYLED_POLICY
from whinchat.server.run_pages import RunPages
from whinchat.server.server_metrics import ServerMetrics

T = TypeVar("T")

_PAGE = Path(__file__).with_name("page")
_SWAGGER_UI = Path(__file__).with_name("swagger_ui")
_IMAGE_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Not ready, and why"}
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorResponse, "description": "The server has a key, and the request has not"},
    403: {"model": ErrorResponse, "description": "`Host` or `Origin` is that of another site"},
}


def add_monitoring(app: FastAPI, metrics: ServerMetrics) -> None:
    """Add the routes for orchestrators and for Prometheus."""

    @app.get("/health", tags=["watch"], response_class=PlainTextResponse)
    async def health() -> str:
        """Report that the process runs."""
        return "ok"

    @app.get("/ready", tags=["watch"], response_class=PlainTextResponse, responses=_NOT_READY)
    async def ready() -> Response:
        """Report whether the server accepts texts and can compute."""
        batcher: Batcher = app.state.batcher
        if not batcher.running:
            return PlainTextResponse("not ready", 503)
        if broken := batcher.broken:
            # The next report says whether they have recovered.
            batcher.recheck()
            return PlainTextResponse(f"not ready: {', '.join(broken)} cannot compute", 503)
        return PlainTextResponse("ready")

    @app.get("/metrics", tags=["watch"], response_class=PlainTextResponse, responses=_REFUSED)
    async def prometheus() -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def add_pages(app: FastAPI, pages: Mapping[str, RunPages]) -> None:
    """Add the routes of the browser page, and of the ``pages`` of each classifier."""

    def find(name: str) -> RunPages:
        return _or_404(pages.get(name))

    def file_of(path: Path) -> Callable[[], Awaitable[FileResponse]]:
        async def send() -> FileResponse:
            return FileResponse(path)

        return send

    pages_of_server = (("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css"))
    for address, name in (*pages_of_server, ("/docs", "docs.html"), ("/docs.js", "docs.js")):
        app.add_api_route(address, file_of(_PAGE / name), include_in_schema=False, response_class=FileResponse)
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        send = file_of(_SWAGGER_UI / name)
        app.add_api_route(f"/swagger_ui/{name}", send, include_in_schema=False, response_class=FileResponse)

    @app.get("/runs/{name}/card", include_in_schema=False)
    async def card(name: str) -> HTMLResponse:
        return HTMLResponse(_or_404(find(name).card), headers={"Content-Security-Policy": STYLED_POLICY})

    @app.get("/runs/{name}/report", include_in_schema=False)
    async def report(name: str) -> HTMLResponse:
        return HTMLResponse(_or_404(find(name).report), headers={"Content-Security-Policy": STYLED_POLICY})

    @app.get("/runs/{name}/figures/{file}", include_in_schema=False)
    async def figure(name: str, file: str) -> Response:
        content = _or_404(find(name).figures.get(file))
        media_type = _IMAGE_TYPES[file.rpartition(".")[2]]
        return Response(content, media_type=media_type, headers={"Content-Security-Policy": FIGURE_POLICY})


def _or_404(page: T | None) -> T:
    if page is None:
        raise HTTPException(404, "there is no such page")
    return page
