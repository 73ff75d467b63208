"""The routes that classify: texts, tables, and the list of classifiers."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from whinchat.data.text_columns import TextColumns
from whinchat.inference.predictor import Predictions
from whinchat.inference.question_predictor import QuestionPredictions
from whinchat.server.api_schema import (
    AnsweredText,
    AnswerRequest,
    AnswerResponse,
    ClassifyRequest,
    ClassifyResponse,
    ColumnsResponse,
    ErrorResponse,
    LabelProbabilities,
    Limits,
    ModelInfo,
    ModelResponse,
    TableEvent,
    TextResult,
)
from whinchat.server.batcher import QueueFullError
from whinchat.server.error_responses import busy
from whinchat.server.json_request import read_json, strict_json_route
from whinchat.server.model_access import ACCESS_STATUSES, ANSWER_STATUSES, ModelAccess, refusals
from whinchat.server.served_models import ModelKey, ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.transfer_limits import TABLE_PATH
from whinchat.server.uploads import (
    TableRequest,
    free_prefix,
    label_upload,
    read_columns,
    store_upload,
    upload_suffixes,
)

_ACCESS = refusals(ErrorResponse, **ACCESS_STATUSES)
_REFUSED = _ACCESS | refusals(
    ErrorResponse, **ANSWER_STATUSES, status_422="The request cannot be read; the detail says what is wrong, and where"
)
_EVENTS = {
    "description": "One event in each line (application/x-ndjson)",
    "content": {"application/x-ndjson": {"schema": TableEvent.model_json_schema()}},
}


async def _cleanup_stack() -> AsyncIterator[ExitStack]:
    """Yield a stack that is closed when the response is finished, or its client has gone."""
    with ExitStack() as stack:
        yield stack


_Cleanup = Annotated[ExitStack, Depends(_cleanup_stack)]
_ModelName = Annotated[str | None, Query(description="Name of the classifier.")]
_TableName = Annotated[
    str,
    Query(
        description="Name of the file; its suffix gives the format: CSV, TSV or JSONL.",
        max_length=255,
        # For the schema alone: the error of a name without such a suffix lists them all.
        json_schema_extra={"pattern": f"({'|'.join(map(re.escape, upload_suffixes()))})$"},
    ),
]
# Any bytes, as far as the schema knows.
_TABLE_BODY = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {}}}}}


def add_api(
    app: FastAPI,
    models: Mapping[str, ServedModel],
    infos: list[ModelInfo],
    limits: Limits,
    metrics: ServerMetrics,
) -> None:
    """Add the routes under ``/v1`` that classify."""
    classifiers = ModelAccess(app, models, limits, metrics)
    router = APIRouter(route_class=strict_json_route(partial(read_json, max_texts=limits.max_texts)), tags=["classify"])

    @router.post("/v1/classify", responses=_REFUSED)
    async def classify(request: ClassifyRequest, http: Request) -> ClassifyResponse:
        """Predict the label of one text, or of several, with the probability of each label."""
        model, _ = classifiers.find_with_labels(request.model)
        texts = [request.texts] if isinstance(request.texts, str) else request.texts
        http.state.texts = len(texts)
        # In a thread, because it takes long texts through the chat template.
        await asyncio.to_thread(classifiers.check_texts, texts, model)
        if request.before and model.adapter is None:
            fault = f"before: {model.name} has merged weights, so the model before fine-tuning is not there"
            raise HTTPException(422, f"{fault}; leave it out")
        after = await classifiers.predict(ModelKey(model.name), texts)
        results = [TextResult(**after.to_dict(row)) for row in range(len(texts))]
        if request.before:
            before = await classifiers.predict(ModelKey(model.name, before=True), texts)
            for row, result in enumerate(results):
                result.before = LabelProbabilities(**before.to_dict(row))
        return ClassifyResponse(model=model.name, results=results)

    @router.post("/v1/answer", responses=_REFUSED)
    async def answer(request: AnswerRequest, http: Request) -> AnswerResponse:
        """Answer the questions that a classifier was trained on about one text, or about several."""
        model = classifiers.find_with_questions(request.model)
        texts = [request.texts] if isinstance(request.texts, str) else request.texts
        http.state.texts = len(texts)
        await asyncio.to_thread(classifiers.check_texts, texts, model)
        found = await classifiers.predict(ModelKey(model.name), texts)
        results = [AnsweredText(**found.to_dict(row)) for row in range(len(texts))]
        return AnswerResponse(model=model.name, results=results)

    @router.get("/v1/model", responses=_ACCESS)
    async def list_models() -> ModelResponse:
        """List the classifiers, and the limits of a request."""
        return ModelResponse(version=version("whinchat"), default=classifiers.default, models=infos, limits=limits)

    @router.post("/v1/columns", responses=_REFUSED, openapi_extra=_TABLE_BODY)
    async def columns(
        request: Request, cleanup: _Cleanup, name: _TableName, model: _ModelName = None
    ) -> ColumnsResponse:
        """List the columns of a table, to choose the column of the texts. The body is the file, or its beginning."""
        recipe = classifiers.find(model).predictor.recipe
        names = await read_columns(request.stream(), name, limits, app.state.uploads, cleanup)
        text = TextColumns.of(recipe.data)
        is_whole = set(text.names) <= set(names)
        return ColumnsResponse(
            columns=list(names),
            text_column=text.names[0] if is_whole and text.template is None else None,
            text_template=text.template if is_whole else None,
            prefix=free_prefix(names, recipe.task),
        )

    @router.post(
        TABLE_PATH,
        responses={**_REFUSED, 200: _EVENTS},
        response_class=StreamingResponse,
        openapi_extra=_TABLE_BODY,
    )
    async def table(
        request: Request,
        cleanup: _Cleanup,
        name: _TableName,
        column: Annotated[
            str | None,
            Query(
                description="Column of the texts; by default the column, or the columns, that the classifier was "
                "trained on."
            ),
        ] = None,
        model: _ModelName = None,
        prefix: Annotated[str, Query(description="Prefix for the names of the added columns.", max_length=255)] = "",
    ) -> StreamingResponse:
        """Label every row of a table. The body of the request is the file.

        The rows come back in their order, with further columns for label or answers, probabilities, and the error of a
        row that cannot be read. The last event says whether the table is complete: `done` is `total` and `error` is
        null.
        """
        served = classifiers.find(model)
        recipe = served.predictor.recipe
        wanted = TableRequest(name, TextColumns.of(recipe.data, column or None), prefix, recipe.task)
        try:
            reservation = cleanup.enter_context(classifiers.reserve())
        except QueueFullError:
            reason = "as many tables are being labelled, or texts are waiting, as the limits allow"
            raise busy(reason, classifiers.batcher.reservation_retry_seconds) from None
        upload = await store_upload(request.stream(), wanted, limits, app.state.uploads, cleanup)
        reservation.texts_left = upload.rows
        request.state.texts = 0

        async def predict_piece(texts: list[str]) -> Predictions | QuestionPredictions:
            request.state.texts += len(texts)
            return await classifiers.predict(ModelKey(served.name), texts, reservation)

        events = label_upload(upload, served.predictor.fault, predict_piece)
        return StreamingResponse(events, media_type="application/x-ndjson")

    app.include_router(router)
