"""Find the classifier of a request and compute with it; errors become refusals."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from whinchat.data.text_columns import text_fault
from whinchat.errors import ModelError
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.inference.question_predictor import QuestionPredictions
from whinchat.server.api_schema import ErrorResponse, Limits
from whinchat.server.batcher import Batcher, QueueFullError, Reservation
from whinchat.server.error_responses import busy, quote
from whinchat.server.ready_question import QuestionAnswers
from whinchat.server.served_models import BatchResult, ModelKey, ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.uploads import rows_per_piece

_logger = logging.getLogger("whinchat")
# What the schema says of refusals that all addresses share, and of those that requests for answers share.
ACCESS_STATUSES = {
    "status_401": "The server has a key, and the request has not",
    "status_403": "`Host` or `Origin` is that of another site",
    "status_503": "There are too many connections, or the model cannot compute this request",
}
ANSWER_STATUSES = {
    "status_404": "There is no classifier of this name",
    "status_408": "The body came too slowly",
    "status_413": "More, or longer, than the limits allow",
    "status_415": "The body is no JSON by its `Content-Type`, or it is compressed",
    "status_429": "Too many texts are waiting; try again after `Retry-After` seconds",
    "status_500": "The scores of a text are not finite numbers, or the server failed",
}


def refusals(shape: type[BaseModel] = ErrorResponse, **descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Return what the schema says of refusals of one shape, from descriptions by ``status_N``."""
    return {
        int(name.removeprefix("status_")): {"model": shape, "description": description}
        for name, description in descriptions.items()
    }


class ModelAccess:
    """The classifiers of an application.

    Args:
        app: the application, whose state holds the batcher.
        models: the classifiers by name; the first is the default.
        limits: what the server accepts.
        metrics: the counters of answers.
    """

    def __init__(self, app: FastAPI, models: Mapping[str, ServedModel], limits: Limits, metrics: ServerMetrics) -> None:
        self._app, self._models, self._limits, self._metrics = app, models, limits, metrics
        self.default = next(iter(models))

    @property
    def batcher(self) -> Batcher:
        """The batcher of the application, while that runs."""
        batcher: Batcher = self._app.state.batcher
        return batcher

    def find(self, name: str | None) -> ServedModel:
        """Return the classifier of a request.

        Raises:
            HTTPException: status 404, where there is none of this name.
        """
        try:
            return self._models[self.default if name is None else name]
        except KeyError:
            fault = f"there is no classifier {quote(str(name))}; choose from {', '.join(self._models)}"
            raise HTTPException(404, fault) from None

    def find_with_labels(self, name: str | None) -> tuple[ServedModel, Predictor]:
        """Return the classifier of a request for labels, and its predictor.

        Raises:
            HTTPException: status 404, where there is none of this name; 422, where it answers questions.
        """
        model = self.find(name)
        if isinstance(model.predictor, Predictor):
            return model, model.predictor
        asked = ", ".join(model.predictor.recipe.task.questions)
        fault = f"{model.name} answers questions ({asked}) and has no labels; ask it by POST /v1/answer"
        raise HTTPException(422, fault)

    def find_with_questions(self, name: str | None) -> ServedModel:
        """Return the classifier of a request for answers to its questions.

        Raises:
            HTTPException: status 404, where there is none of this name; 422, where it has labels.
        """
        model = self.find(name)
        if isinstance(model.predictor, Predictor):
            raise HTTPException(422, f"{model.name} has labels and no questions; ask it by POST /v1/classify")
        return model

    async def predict(
        self, key: ModelKey, texts: list[str], reservation: Reservation | None = None
    ) -> Predictions | QuestionPredictions:
        """Predict the labels of texts, or the answers to the questions that the classifier was trained on.

        Raises:
            HTTPException: the texts cannot be computed, or not now.
        """
        predictions = await self._compute(key, texts, reservation)
        assert not isinstance(predictions, QuestionAnswers)
        if not key.before:
            counts, unsure = predictions.count()
            for label, count in counts.items():
                self._metrics.answers.labels(key.name, label).inc(count)
            self._metrics.unsure.labels(key.name).inc(unsure)
        return predictions

    async def answer(self, key: ModelKey, text: str) -> QuestionAnswers:
        """Answer the questions of ``key`` about a text.

        Raises:
            HTTPException: as for ``predict``.
        """
        answers = await self._compute(key, [text])
        assert isinstance(answers, QuestionAnswers)
        return answers

    async def _compute(self, key: ModelKey, texts: list[str], reservation: Reservation | None = None) -> BatchResult:
        try:
            return await self.batcher.predict(key, texts, reservation=reservation)
        except QueueFullError:
            waiting = f"{self.batcher.waiting:,} texts are waiting"
            raise busy(waiting, self.batcher.retry_seconds) from None
        except ModelError as error:
            # The message quotes the text.
            _logger.error(str(error))
            fault = f"the scores of {key.name} are not finite numbers; the server's log names the text"
            raise HTTPException(500, fault) from None
        except (MemoryError, RuntimeError):  # of which torch's own errors are, as about memory
            _logger.exception(f"{key.name}: could not compute {len(texts)} texts")
            fault = f"{key.name} could not compute the texts; send fewer or shorter ones, or see the server's log"
            raise HTTPException(503, fault) from None

    def reserve(self) -> AbstractContextManager[Reservation]:
        """Keep places in the queue for a table."""
        return self.batcher.reserve(rows_per_piece(self._limits), self._limits.max_tables)

    def check_texts(self, texts: list[str], model: ServedModel) -> None:
        """Refuse more texts than allowed, or a text that is too long or that the model cannot read.

        Raises:
            HTTPException: status 413 or 422.
        """
        limits = self._limits
        if len(texts) > limits.max_texts:
            raise HTTPException(413, f"texts: {len(texts):,} texts; a request may hold at most {limits.max_texts:,}")
        for index, text in enumerate(texts):
            name = f"texts[{index}]"
            self.check_text(text, name)
            if fault := model.predictor.fault(text):
                raise HTTPException(422, f"{name}: {fault}; leave this text out")

    def check_text(self, text: str, name: str) -> None:
        """Refuse a text that is too long, or that no model can read.

        Raises:
            HTTPException: status 413 or 422; the message calls the text ``name``.
        """
        most = self._limits.max_chars
        if len(text) > most:
            raise HTTPException(413, f"{name}: {len(text):,} characters; a text may have at most {most:,}")
        if fault := text_fault(text, name):
            raise HTTPException(422, f"{fault}; repair this text, or leave it out")
