"""Answers to requests that cannot be served: JSON with one sentence, and nothing of the server's inside."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware

_SHOWN_ERRORS = 3
_LONGEST_QUOTE = 80
_LONGEST_DETAIL = 2000
# The parts of a place in a body that name a kind of input, and not a field.
_NO_FIELDS = ("body", "query", "path", "text", "list")


def error_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer with ``detail``."""
    return JSONResponse({"detail": printable(detail)}, status, headers)


def busy(reason: str, seconds: int, status: int = 429) -> HTTPException:
    """Return the refusal of a request that may come again in so many ``seconds``."""
    fault = f"{reason}; try again in {seconds} {'second' if seconds == 1 else 'seconds'}"
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
        headers = dict(error.headers or {})
        if error.status_code == 405:
            return error_response(405, f"this address takes {headers.get('Allow', 'another method')} only", headers)
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = "there is no such address; /docs lists them all"
        return error_response(error.status_code, detail, headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(422, describe_errors(error.errors()))

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, "the server failed; its log says why")

    app.add_exception_handler(HTTPException, refuse)
    app.add_exception_handler(RequestValidationError, invalid)
    # The outermost middleware of the framework would answer too, but beyond the security headers and the metrics.
    app.add_middleware(ServerErrorMiddleware, handler=failed)
