"""The HTTP application: what is asked, what is answered, what is refused."""

from __future__ import annotations

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
from whinchat.inference.predictor import Predictions
from whinchat.server.api_schema import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    LabelProbabilities,
    Limits,
    ModelResponse,
    TableEvent,
    TextResult,
)
from whinchat.server.batcher import Answer, Batcher, QueueFullError
from whinchat.server.run_pages import RunPages, model_info
from whinchat.server.served_models import ModelKey, ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.uploads import label_upload, store_upload

T = TypeVar("T")

_PAGE = Path(__file__).with_name("page")
# The page's own files, its figures, and the server itself: nothing comes from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
# The report and the card's tables carry styles of their own, and no script.
_STYLED_POLICY = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "No classifier of that name"},
    413: {"model": ErrorResponse, "description": "More or longer texts than allowed"},
    429: {"model": ErrorResponse, "description": "Too many texts are waiting; try again after `Retry-After` seconds"},
}


def create_app(hosted: Mapping[str, ServedModel], answer: Answer, limits: Limits, batch_size: int) -> FastAPI:
    """An application that answers by ``answer``, which one thread calls with at most ``batch_size`` texts."""
    metrics = ServerMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(answer, batch_size, limits.max_waiting, metrics.batches.observe)
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
        # Their pages would be fetched from elsewhere; /openapi.json says the same.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(_BodyLimit, limits=limits)
    pages = RunPages({name: one.path for name, one in hosted.items()})
    _add_api(app, hosted, pages, limits, metrics)
    _add_watching(app, metrics)
    _add_pages(app, pages)
    return app


def _add_api(
    app: FastAPI, hosted: Mapping[str, ServedModel], pages: RunPages, limits: Limits, metrics: ServerMetrics
) -> None:
    first = next(iter(hosted))
    cards = [model_info(one, pages) for one in hosted.values()]

    def find(name: str | None) -> ServedModel:
        try:
            return hosted[name or first]
        except KeyError:
            raise HTTPException(404, f"no classifier {name!r} here; there are {', '.join(hosted)}") from None

    async def ask(name: str, texts: list[str], *, before: bool = False, patient: bool = False) -> Predictions:
        try:
            answers: Predictions = await app.state.batcher.ask(ModelKey(name, before), texts, patient=patient)
        except QueueFullError:
            raise HTTPException(
                429, f"{limits.max_waiting:,} texts are waiting; try again in a second", {"Retry-After": "1"}
            ) from None
        if not before:
            for label in answers.label_names:
                metrics.answers.labels(name, label).inc()
            metrics.unsure.labels(name).inc(int(answers.unsure.sum()))
        return answers

    @app.post("/v1/classify", responses=_REFUSED, tags=["classify"])
    async def classify(asked: ClassifyRequest) -> ClassifyResponse:
        """Label one text, or several, with the probability of each label."""
        one = find(asked.model)
        texts = [asked.texts] if isinstance(asked.texts, str) else asked.texts
        _check(texts, limits)
        if asked.before and one.adapter is None:
            raise HTTPException(422, f"before: {one.name} holds merged weights, so there is no before to ask")
        after = await ask(one.name, texts)
        before = await ask(one.name, texts, before=True) if asked.before else None
        results = [
            TextResult(
                **after.to_dict(at), before=None if before is None else LabelProbabilities(**_shares(before, at))
            )
            for at in range(len(texts))
        ]
        return ClassifyResponse(model=one.name, results=results)

    @app.get("/v1/model", tags=["classify"])
    async def models() -> ModelResponse:
        """The classifiers that answer here, and what a request may hold."""
        return ModelResponse(version=version("whinchat"), default=first, models=cards, limits=limits)

    @app.post(
        "/v1/table",
        responses={**_REFUSED, 200: {"model": TableEvent, "description": "One event a line (application/x-ndjson)"}},
        response_class=StreamingResponse,
        tags=["classify"],
        openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def table(
        request: Request,
        name: Annotated[str, Query(description="Name of the file: its ending says whether CSV, TSV or JSONL.")],
        column: Annotated[
            str | None, Query(description="Column of the texts; the classifier's own by default.")
        ] = None,
        model: Annotated[str | None, Query(description="Name of the classifier.")] = None,
    ) -> StreamingResponse:
        """Label a table: the body is the file. Every row comes back in its place, with columns for label,
        probabilities, and what was wrong with it."""
        one = find(model)
        recipe = one.predictor.recipe
        upload = await store_upload(request.stream(), name, column or recipe.data.text_column, recipe.task.labels)

        async def answer(texts: list[str]) -> Predictions:
            return await ask(one.name, texts, patient=True)

        events = label_upload(upload, answer)
        return StreamingResponse(events, media_type="application/x-ndjson")


def _check(texts: list[str], limits: Limits) -> None:
    if len(texts) > limits.max_texts:
        raise HTTPException(413, f"texts: {len(texts):,} of them; at most {limits.max_texts:,} in one request")
    for at, text in enumerate(texts):
        if len(text) > limits.max_chars:
            raise HTTPException(413, f"texts[{at}]: {len(text):,} characters; at most {limits.max_chars:,}")
        if fault := text_fault(text, f"texts[{at}]"):
            raise HTTPException(422, f"{fault}; send whole characters")


def _shares(answers: Predictions, at: int) -> dict[str, Any]:
    line = answers.to_dict(at)
    return {"label": line["label"], "probabilities": line["probabilities"]}


def _add_watching(app: FastAPI, metrics: ServerMetrics) -> None:
    @app.get("/health", tags=["watch"], response_class=PlainTextResponse)
    async def health() -> str:
        """The process is there."""
        return "ok"

    @app.get("/ready", tags=["watch"], response_class=PlainTextResponse)
    async def ready() -> Response:
        """Texts are being answered."""
        running = app.state.batcher.running
        return PlainTextResponse("ready" if running else "not answering", 200 if running else 503)

    @app.get("/metrics", tags=["watch"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """For Prometheus."""
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.middleware("http")
    async def watch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        # The route and not the address, which anyone can make up.
        path = getattr(request.scope.get("route"), "path", "other")
        metrics.requests.labels(path, str(response.status_code)).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - started)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response


def _add_pages(app: FastAPI, pages: RunPages) -> None:
    def file_of(name: str) -> Callable[[], Awaitable[FileResponse]]:
        async def send() -> FileResponse:
            return FileResponse(_PAGE / name)

        return send

    for address, name in (("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css")):
        app.add_api_route(address, file_of(name), include_in_schema=False, response_class=FileResponse)

    @app.get("/runs/{name}/card", include_in_schema=False)
    async def card(name: str) -> HTMLResponse:
        return HTMLResponse(_found(pages.card(name)), headers={"Content-Security-Policy": _STYLED_POLICY})

    @app.get("/runs/{name}/report", include_in_schema=False)
    async def report(name: str) -> FileResponse:
        return FileResponse(_found(pages.report(name)), headers={"Content-Security-Policy": _STYLED_POLICY})

    @app.get("/runs/{name}/figures/{file}", include_in_schema=False)
    async def figure(name: str, file: str) -> FileResponse:
        return FileResponse(_found(pages.figure(name, file)))


def _found(thing: T | None) -> T:
    if thing is None:
        raise HTTPException(404, "nothing of that name here")
    return thing


class _BodyLimit:
    """Refuses bodies that are longer than any request that is allowed can be, before they are in memory."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        # JSON may take twelve bytes for a character.
        texts = limits.max_texts * (limits.max_chars * 12 + 8) + 1024
        self._most = {"/v1/classify": min(texts, 64_000_000), "/v1/table": limits.max_table_bytes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._most.get(scope.get("path", ""))
        if scope["type"] != "http" or most is None:
            await self._app(scope, receive, send)
            return
        detail = f"the body is longer than {most:,} bytes; send less at once"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await JSONResponse({"detail": detail}, 413)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)
