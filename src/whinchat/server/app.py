"""The HTTP application: its routes, its limits and its metrics."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whinchat.data.rows import text_fault
from whinchat.errors import ModelError
from whinchat.inference.predictor import Predictions
from whinchat.server.api_schema import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    LabelProbabilities,
    Limits,
    ModelInfo,
    ModelResponse,
    TableEvent,
    TextResult,
)
from whinchat.server.batcher import Batcher, PredictFunction, QueueFullError
from whinchat.server.run_pages import RunPages, model_info
from whinchat.server.served_models import ModelKey, ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.uploads import label_upload, store_upload
from whinchat.storage.run_folder import RunFolder

T = TypeVar("T")

_PAGE = Path(__file__).with_name("page")
# Content security policy: the page loads its own files and figures, and asks this server; nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
# Report and card contain styles, and no script.
_STYLED_POLICY = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no classifier of this name"},
    413: {"model": ErrorResponse, "description": "More texts, or longer ones, than the limits allow"},
    429: {"model": ErrorResponse, "description": "Too many texts are waiting; try again after `Retry-After` seconds"},
    500: {"model": ErrorResponse, "description": "The scores of a text are not finite numbers"},
}
_EVENTS = {"model": TableEvent, "description": "One event in each line (application/x-ndjson)"}


def create_app(models: Mapping[str, ServedModel], predict: PredictFunction, limits: Limits, batch_size: int) -> FastAPI:
    """Build the application.

    Args:
        models: the classifiers by name; the first is the default.
        predict: predicts at most ``batch_size`` texts; always called by the same thread.
        limits: what the server accepts.
        batch_size: maximum number of texts in a batch.
    """
    metrics = ServerMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(predict, batch_size, limits.max_waiting, metrics.batches.observe)
        batcher.start()
        metrics.waiting.set_function(lambda: batcher.waiting)
        app.state.batcher = batcher
        yield
        await batcher.stop()

    app = FastAPI(
        title="whinchat",
        version=version("whinchat"),
        summary="A small chat model as a text classifier",
        lifespan=lifespan,
        # FastAPI's documentation pages load scripts from other hosts. /openapi.json has the same content.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(_BodyLimit, limits=limits)
    pages = {name: RunPages(name, RunFolder(model.path)) for name, model in models.items()}
    infos = [model_info(model, pages[name], limits.max_chars) for name, model in models.items()]
    _add_api(app, models, infos, limits, metrics)
    _add_monitoring(app, metrics)
    _add_pages(app, pages)
    return app


def _add_api(
    app: FastAPI, models: Mapping[str, ServedModel], infos: list[ModelInfo], limits: Limits, metrics: ServerMetrics
) -> None:
    default = next(iter(models))

    def find(name: str | None) -> ServedModel:
        try:
            return models[name or default]
        except KeyError:
            raise HTTPException(404, f"there is no classifier {name!r}; choose from {', '.join(models)}") from None

    async def predict(key: ModelKey, texts: list[str], *, bypass_queue_limit: bool = False) -> Predictions:
        batcher: Batcher = app.state.batcher
        try:
            predictions = await batcher.predict(key, texts, bypass_queue_limit=bypass_queue_limit)
        except QueueFullError:
            fault = f"{limits.max_waiting:,} texts are waiting; try again in a second"
            raise HTTPException(429, fault, {"Retry-After": "1"}) from None
        except ModelError as error:
            # The message quotes the text, which another client of the same batch may have sent.
            logging.getLogger("whinchat").error(str(error))
            fault = f"the scores of {key.name} are not finite numbers; the server's log names the text"
            raise HTTPException(500, fault) from None
        if not key.before:
            for label in predictions.label_names:
                metrics.answers.labels(key.name, label).inc()
            metrics.unsure.labels(key.name).inc(int(predictions.unsure.sum()))
        return predictions

    @app.post("/v1/classify", responses=_REFUSED, tags=["classify"])
    async def classify(request: ClassifyRequest) -> ClassifyResponse:
        """Predict the label of one text, or of several, with the probability of each label."""
        model = find(request.model)
        texts = [request.texts] if isinstance(request.texts, str) else request.texts
        _check_texts(texts, limits, model)
        if request.before and model.adapter is None:
            fault = f"before: {model.name} has merged weights, so the model before fine-tuning is not there"
            raise HTTPException(422, f"{fault}; leave it out")
        after = await predict(ModelKey(model.name), texts)
        results = [TextResult(**after.to_dict(row)) for row in range(len(texts))]
        if request.before:
            before = await predict(ModelKey(model.name, before=True), texts)
            for row, result in enumerate(results):
                result.before = LabelProbabilities(**before.to_dict(row))
        return ClassifyResponse(model=model.name, results=results)

    @app.get("/v1/model", tags=["classify"])
    async def list_models() -> ModelResponse:
        """List the classifiers, and the limits of a request."""
        return ModelResponse(version=version("whinchat"), default=default, models=infos, limits=limits)

    @app.post(
        "/v1/table",
        responses={**_REFUSED, 200: _EVENTS},
        response_class=StreamingResponse,
        tags=["classify"],
        openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def table(
        request: Request,
        name: Annotated[str, Query(description="Name of the file; its suffix gives the format: CSV, TSV or JSONL.")],
        column: Annotated[
            str | None,
            Query(description="Column of the texts; the column that the classifier was trained on by default."),
        ] = None,
        model: Annotated[str | None, Query(description="Name of the classifier.")] = None,
    ) -> StreamingResponse:
        """Label every row of a table. The body of the request is the file.

        The rows come back in their order, with further columns for label, probabilities, and the error of a row that
        cannot be read.
        """
        served = find(model)
        recipe = served.predictor.recipe
        upload = await store_upload(request.stream(), name, column or recipe.data.text_column, recipe.task.labels)

        async def predict_piece(texts: list[str]) -> Predictions:
            return await predict(ModelKey(served.name), texts, bypass_queue_limit=True)

        events = label_upload(upload, served.predictor.engine.template, predict_piece)
        return StreamingResponse(events, media_type="application/x-ndjson")


def _check_texts(texts: list[str], limits: Limits, model: ServedModel) -> None:
    if len(texts) > limits.max_texts:
        raise HTTPException(413, f"texts: {len(texts):,} texts; a request may hold at most {limits.max_texts:,}")
    for index, text in enumerate(texts):
        name, count = f"texts[{index}]", len(text)
        if count > limits.max_chars:
            raise HTTPException(413, f"{name}: {count:,} characters; a text may have at most {limits.max_chars:,}")
        if fault := text_fault(text, name):
            raise HTTPException(422, f"{fault}; send whole characters")
        if fault := model.predictor.engine.template.fault(text):
            raise HTTPException(422, f"{name}: {fault}; leave this text out")


def _add_monitoring(app: FastAPI, metrics: ServerMetrics) -> None:
    @app.get("/health", tags=["watch"], response_class=PlainTextResponse)
    async def health() -> str:
        """Report that the process runs."""
        return "ok"

    @app.get("/ready", tags=["watch"], response_class=PlainTextResponse)
    async def ready() -> Response:
        """Report whether the server accepts texts."""
        running = app.state.batcher.running
        return PlainTextResponse("ready" if running else "not ready", 200 if running else 503)

    @app.get("/metrics", tags=["watch"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.middleware("http")
    async def watch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        # The route, and not the address: clients could make up any number of addresses.
        path = getattr(request.scope.get("route"), "path", "other")
        metrics.requests.labels(path, str(response.status_code)).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - started)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response


def _add_pages(app: FastAPI, pages: Mapping[str, RunPages]) -> None:
    def find(name: str) -> RunPages:
        return _or_404(pages.get(name))

    def file_of(name: str) -> Callable[[], Awaitable[FileResponse]]:
        async def send() -> FileResponse:
            return FileResponse(_PAGE / name)

        return send

    for address, name in (("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css")):
        app.add_api_route(address, file_of(name), include_in_schema=False, response_class=FileResponse)

    @app.get("/runs/{name}/card", include_in_schema=False)
    async def card(name: str) -> HTMLResponse:
        return HTMLResponse(_or_404(find(name).card()), headers={"Content-Security-Policy": _STYLED_POLICY})

    @app.get("/runs/{name}/report", include_in_schema=False)
    async def report(name: str) -> FileResponse:
        return FileResponse(_or_404(find(name).report()), headers={"Content-Security-Policy": _STYLED_POLICY})

    @app.get("/runs/{name}/figures/{file}", include_in_schema=False)
    async def figure(name: str, file: str) -> FileResponse:
        return FileResponse(_or_404(find(name).figure(file)))


def _or_404(page: T | None) -> T:
    if page is None:
        raise HTTPException(404, "there is no such page")
    return page


class _BodyLimit:
    """Middleware that refuses a body longer than any allowed request, before the body is in memory."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        # JSON takes up to twelve bytes for a character.
        classify_bytes = limits.max_texts * (limits.max_chars * 12 + 8) + 1024
        self._max_bytes = {"/v1/classify": min(classify_bytes, 64_000_000), "/v1/table": limits.max_table_bytes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        max_bytes = self._max_bytes.get(scope.get("path", ""))
        if scope["type"] != "http" or max_bytes is None:
            await self._app(scope, receive, send)
            return
        detail = f"the body is longer than {max_bytes:,} bytes; send less in one request"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > max_bytes:
            await JSONResponse({"detail": detail}, 413)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > max_bytes:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)
