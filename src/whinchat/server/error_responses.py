"""Answers to requests that cannot be served: JSON with one sentence, and nothing of the server's inside."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware

from whinchat.wording import counted

# The paths whose errors have the shape of the System One protocol.
SYSTEM_ONE_PATHS = ("/v1/systemone", "/v1/models")
# The kinds of errors of that protocol; for any other status, the words that HTTP has for it.
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large_error",
    429: "rate_limit_error",
    500: "internal_error",
    503: "overloaded_error",
}
_MOST_ERRORS = 20
_SHOWN_ERRORS = 3
_LONGEST_QUOTE = 80
_LONGEST_DETAIL = 2000
# The parts of a place in a body that name a kind of input, and not a field.
_NO_FIELDS = ("body", "query", "path", "text", "list")


def error_response(
    status: int, detail: str | Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None, path: str = ""
) -> JSONResponse:
    """Return the answer to a request that is refused.

    Args:
        status: the status.
        detail: one sentence, or validation errors.
        headers: further headers.
        path: the path of the request. On those of the System One protocol, errors have its shape.
    """
    if path not in SYSTEM_ONE_PATHS:
        sentence = detail if isinstance(detail, str) else describe_errors(detail)
        return JSONResponse({"detail": printable(sentence)}, status, headers)
    if status == 422:
        fault = {"loc": ("body",), "msg": detail, "type": "invalid_request"}
        errors = [fault] if isinstance(detail, str) else detail
        return JSONResponse({"detail": [*map(_validation_error, errors[:_MOST_ERRORS])]}, status, headers)
    assert isinstance(detail, str)
    error_type = _ERROR_TYPES.get(status, f"{HTTPStatus(status).phrase.lower().replace(' ', '_')}_error")
    return JSONResponse({"detail": {"error_type": error_type, "message": printable(detail)}}, status, headers)


def _validation_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return a validation error in the shape of the protocol, without the input."""
    place = [part if isinstance(part, int) else printable(part[:_LONGEST_QUOTE]) for part in error["loc"]]
    return {"loc": place, "msg": printable(error["msg"]), "type": error["type"]}


def busy(reason: str, seconds: int, status: int = 429) -> HTTPException:
    """Return the refusal of a request that may come again in so many ``seconds``."""
    fault = f"{reason}; try again in {counted(seconds, 'second')}"
    return HTTPException(status, fault, {"Retry-After": str(seconds)})


def printable(detail: str) -> str:
    """Return a message, cut where it is long, with halves of surrogate pairs, which UTF-8 cannot hold, spelled out."""
    return detail[:_LONGEST_DETAIL].encode("utf-8", "backslashreplace").decode()


def quote(value: str) -> str:
    """Return a client's own words for a message: in quotes, and cut where they are long."""
    return repr(value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}...")


def describe_errors(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first few validation errors in one line: where, and what is wrong, without the input."""
    shown = [f"{_place(error['loc'])}: {error['msg']}" for error in errors[:_SHOWN_ERRORS]]
    further = len(errors) - len(shown)
    return "; ".join(shown) + (f"; and {further:,} more" if further else "")


def _place(location: Sequence[str | int]) -> str:
    """Return where an error is, such as ``texts[3]``."""
    kind, *rest = location
    fields = [part for index, part in enumerate(rest) if index == 0 or part not in _NO_FIELDS]
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:_LONGEST_QUOTE]}" for part in fields)
    return names.removeprefix(".") or str(kind)


def add_error_responses(app: FastAPI) -> None:
    """Let ``app`` answer every error by ``error_response``. Call this before other middleware is added."""

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers, path = dict(error.headers or {}), request.url.path
        if error.status_code == 405:
            only = f"this address takes {headers.get('Allow', 'another method')} only"
            return error_response(405, only, headers, path)
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = "there is no such address; /docs lists them all"
        return error_response(error.status_code, detail, headers, path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(422, error.errors(), path=request.url.path)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, "the server failed; its log says why", path=request.url.path)

    app.add_exception_handler(HTTPException, refuse)
    app.add_exception_handler(RequestValidationError, invalid)
    # The outermost middleware of the framework would answer too, but beyond the security headers and the metrics.
    app.add_middleware(ServerErrorMiddleware, handler=failed)
