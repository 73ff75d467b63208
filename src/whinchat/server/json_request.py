"""Read the JSON body of a request strictly, and at a cost that its size bounds."""

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from whinchat.server.error_responses import quote

# A string with its quotes; a string that is never closed goes to the end. Possessive, so that a body is read once.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# What is left of a request without its strings: an object with at most one list, which holds only strings.
_ONLY_TEXTS = re.compile(rb"\s*\{[^\[\]{}]*\[[\s,]*\][^\[\]{}]*\}\s*")
# Values besides the texts: more than the fields of a request, so that the schema can name those it does not know.
_OTHER_VALUES = 64
# Digits of a whole number; more take longer than in proportion to their number.
_MOST_DIGITS = 300


def read_json(raw: bytes, max_texts: int) -> Any:
    """Parse a body that holds at most ``max_texts`` texts and a few other values.

    Numbers are read as floats: no field is a number, and a float is read in one step however many digits it has.

    Raises:
        HTTPException: status 413 if there are more texts; 422 if there are more values of other kinds, the body is not
            UTF-8 or not JSON, or an object has a key twice.
    """
    outside = _STRING.sub(b"", raw)
    values = sum(map(outside.count, (b",", b"[", b"{")))
    if values > max_texts + _OTHER_VALUES:
        raise HTTPException(
            413 if _ONLY_TEXTS.fullmatch(outside) else 422,
            f"the body holds {values:,} values; a request may hold at most {max_texts:,} texts, so send less in one",
        )
    return _parse(raw, float)


def read_questions(raw: bytes) -> Any:
    """Parse a body of which any part may be shown to the model, so that its numbers stay as they are.

    Raises:
        HTTPException: status 422, as for ``read_json``, and for NaN and infinite numbers.
    """
    return _parse(raw, _integer)


def _integer(digits: str) -> int | float:
    """Return a whole number; one that is too long to be read in little time as the float nearest to it."""
    return int(digits) if len(digits) <= _MOST_DIGITS else _finite(digits)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise HTTPException(422, f"the body holds {quote(number)}, which is no finite number; send it as a string")
    return value


def _parse(raw: bytes, parse_int: Callable[[str], int | float]) -> Any:
    strict: dict[str, Any] = {} if parse_int is float else {"parse_float": _finite, "parse_constant": _finite}
    try:
        return json.loads(raw.decode(), parse_int=parse_int, object_pairs_hook=_object, **strict)
    except UnicodeDecodeError as fault:
        place = f"byte {fault.start} (0x{raw[fault.start]:02x})"
        raise HTTPException(422, f"the body is not UTF-8: {place}; send the text in UTF-8") from None
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        raise HTTPException(422, f"the body is not JSON: {fault.msg} at {place}; send one JSON object") from None
    except RecursionError:
        raise HTTPException(422, "the body is nested too deeply; send one JSON object without others inside") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with the keys and values of ``pairs``; a key that occurs twice is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise HTTPException(422, f"the body has the key {quote(twice)} twice; send each key once")
    return found


def strict_json_route(read: Callable[[bytes], Any]) -> type[APIRoute]:
    """Return a class of routes whose body is parsed by ``read``, and must be declared as JSON."""

    class StrictRequest(Request):
        async def json(self) -> Any:
            # In a thread, because a body of megabytes takes tens of milliseconds.
            return await asyncio.to_thread(read, await self.body())

    class StrictRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_strictly(request: Request) -> Response:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if self.body_field is not None and kind != "application/json":
                    raise HTTPException(415, f"Content-Type: is {quote(kind)}; send application/json")
                return await handle(StrictRequest(request.scope, request.receive))

            return handle_strictly

    return StrictRoute
