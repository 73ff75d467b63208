"""The routes of the System One protocol: typed questions about one content, and the names of the models."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray

from whinchat.errors import RunError
from whinchat.server.api_schema import Limits
from whinchat.server.error_responses import SYSTEM_ONE_PATHS
from whinchat.server.json_request import read_questions, strict_json_route
from whinchat.server.model_access import ACCESS_STATUSES, ANSWER_STATUSES, ModelAccess, refusals
from whinchat.server.question_compiler import QuestionCompiler, QuestionError, content_text
from whinchat.server.ready_question import QuestionAnswers, ReadyQuestion
from whinchat.server.served_models import ModelKey, ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.systemone_schema import (
    AskedQuestion,
    ChoiceAnswer,
    ChoiceQuestion,
    NoulAnswer,
    NoulQuestion,
    ScoreAnswer,
    SystemOneError,
    SystemOneInvalid,
    SystemOneModel,
    SystemOneModels,
    SystemOneRequest,
    SystemOneResponse,
    Usage,
)
from whinchat.storage.run_folder import RunFolder

# The name that clients of the protocol give where they do not choose.
DEFAULT_MODEL = "jev-latest"
_ASK_PATH, _MODELS_PATH = SYSTEM_ONE_PATHS
_ACCESS = refusals(SystemOneError, **ACCESS_STATUSES)
_REFUSED = (
    _ACCESS
    | refusals(SystemOneError, **ANSWER_STATUSES)
    | refusals(SystemOneInvalid, status_422="The request cannot be read; the details say what is wrong, and where")
)


class _Asking:
    """Turns the questions of requests into keys of batches, and predictions into answers."""

    def __init__(self, access: ModelAccess, models: Mapping[str, ServedModel], limits: Limits) -> None:
        self._access, self._limits = access, limits
        most = limits.max_question_tokens
        self._compilers = {name: QuestionCompiler(model.predictor, most) for name, model in models.items()}

    def find(self, name: str) -> ServedModel:
        """Return the classifier of a request; its own name goes before the protocol's."""
        return self._access.find(None if name == DEFAULT_MODEL and name not in self._compilers else name)

    def prepare(self, request: SystemOneRequest, model: str) -> tuple[str, dict[str, ReadyQuestion]]:
        """Return the text of a request and its questions, ready to be asked, by their ids.

        Raises:
            HTTPException: status 413, where text or questions are too long.
            RequestValidationError: a question cannot be asked, or not about this text.
        """
        limits = self._limits
        if len(request.questions) > limits.max_questions:
            count = f"{len(request.questions):,} questions; a request may hold at most {limits.max_questions:,}"
            raise HTTPException(413, f"questions: {count}")
        with _refused_at("state"):
            text = content_text(request.state, "state")
        self._access.check_text(text, "state")
        ready = {}
        for name, question in request.questions.items():
            with _refused_at("questions", name, question.type):
                ready[name] = self._compilers[model].compile(question)
        if (tokens := sum(one.tokens for one in ready.values())) > limits.max_question_tokens:
            most = f"a request may hold at most {limits.max_question_tokens:,}"
            raise HTTPException(413, f"questions: take {tokens:,} tokens together; {most}; send fewer in one request")
        for name, one in ready.items():
            if fault := one.engine.template.fault(text):
                with _refused_at("state"):
                    raise QuestionError(f"question {name}: {fault}")
        return text, ready


@contextmanager
def _refused_at(*place: str) -> Iterator[None]:
    """Turn the fault of a question, or of the text, into a refusal that says where in the body it is."""
    try:
        yield
    except QuestionError as error:
        if error.status != 422:
            raise HTTPException(error.status, f"{'.'.join(place[:2])}: {error}") from None
        fault = {"loc": ("body", *place), "msg": str(error), "type": "invalid_question"}
        raise RequestValidationError([fault]) from None


def add_system_one(app: FastAPI, models: Mapping[str, ServedModel], limits: Limits, metrics: ServerMetrics) -> None:
    """Add the routes of the System One protocol."""
    access = ModelAccess(app, models, limits, metrics)
    asking = _Asking(access, models, limits)
    listed = _listed(models, access.default)
    router = APIRouter(route_class=strict_json_route(read_questions), tags=["System One"])

    @router.post(_ASK_PATH, responses=_REFUSED)
    async def system_one(request: SystemOneRequest, http: Request) -> SystemOneResponse:
        """Answer typed questions about one content.

        A question that the classifier was trained on is answered by its training, with `x_calibrated` true: a choice
        between exactly its labels, without descriptions, whose instructions are those of its task or are left out; or,
        where it was trained on questions, one with the same type, instructions, options and descriptions. Any other
        question is answered by the same model, and nothing is known of how good its probabilities are.
        """
        model = asking.find(request.model)
        http.state.texts = 1
        # In a thread, because it takes texts and questions through the chat template.
        text, ready = await asyncio.to_thread(asking.prepare, request, model.name)
        # In one order, so that requests with the same questions share batches; and each question once.
        asked = tuple(sorted(set(ready.values()), key=lambda one: (one.prompt, one.words, one.names)))
        found = await access.answer(ModelKey(model.name, questions=asked), text)
        columns = {name: asked.index(one) for name, one in ready.items()}
        return SystemOneResponse(
            model=model.name,
            answers={
                name: _answer(question, asked[columns[name]], found, columns[name])
                for name, question in request.questions.items()
            },
            usage=Usage(
                input_tokens=sum(int(found.tokens[0, column]) for column in columns.values()),
                output_tokens=len(columns),
            ),
        )

    @router.get(_MODELS_PATH, responses=_ACCESS)
    async def list_system_one_models() -> SystemOneModels:
        """List the names that requests may give as `model`."""
        return listed

    app.include_router(router)


def _listed(models: Mapping[str, ServedModel], default: str) -> SystemOneModels:
    listed = [
        SystemOneModel(
            name=name,
            description=model.predictor.recipe.description or model.predictor.recipe.task.name,
            release_date=_training_day(model.path),
        )
        for name, model in models.items()
    ]
    if DEFAULT_MODEL not in models:
        alias = listed[0].model_copy(update={"name": DEFAULT_MODEL, "description": f"Another name of {default}."})
        listed.insert(0, alias)
    return SystemOneModels(models=listed)


def _training_day(path: Path) -> str:
    """Return the day on which a run was finished; without a manifest, that on which the recipe was written."""
    folder = RunFolder(path)
    try:
        return folder.read_manifest().created[:10]
    except RunError:
        return datetime.fromtimestamp(folder.recipe.stat().st_mtime, UTC).date().isoformat()


def _answer(
    question: AskedQuestion, asked: ReadyQuestion, found: QuestionAnswers, column: int
) -> NoulAnswer | ChoiceAnswer | ScoreAnswer:
    """Return the answer to a question from column ``column`` of the answers to a single text."""
    shares = found.predictions[column].probabilities[0]
    by_name = dict(zip(asked.names, shares.tolist(), strict=True))
    about: dict[str, Any] = {
        "x_calibrated": asked.is_trained,
        "x_truncated_tokens": int(found.truncated[0, column]),
    }
    if isinstance(question, NoulQuestion):
        return NoulAnswer(noul=by_name["yes"], **about)
    if isinstance(question, ChoiceQuestion):
        probabilities = {name: by_name[name] for name in question.criteria}
        choice = max(probabilities, key=probabilities.__getitem__)
        return ChoiceAnswer(choice=choice, probabilities=probabilities, confidence=choice_confidence(shares), **about)
    numbers = [str(level) for level in range(len(shares))]
    return ScoreAnswer(
        score=float(shares @ np.arange(len(shares))),
        legend=dict(zip(numbers, question.criteria, strict=True)),
        probabilities=dict(zip(numbers, shares.tolist(), strict=True)),
        confidence=score_confidence(shares),
        **about,
    )


def choice_confidence(shares: NDArray[np.float64]) -> float:
    """Return how far the highest of the probabilities (K,) is from even ones: 0 for even ones, 1 for a certainty.

    The formula of the System One protocol, so that a threshold means the same on every server.
    """
    even = 1 / len(shares)
    return float(np.clip((shares.max() - even) / (1 - even), 0, 1))


def score_confidence(shares: NDArray[np.float64]) -> float:
    """Return how close to the most probable level the others are expected, from probabilities (K,).

    1 less the expected distance from the most probable level, in units of the mean distance of all levels from the
    middle of the scale, and not below 0: the formula of the System One protocol.
    """
    levels = np.arange(len(shares))
    distance = shares @ np.abs(levels - shares.argmax())
    even = np.abs(levels - levels.mean()).mean()
    return float(np.clip(1 - distance / even, 0, 1))
