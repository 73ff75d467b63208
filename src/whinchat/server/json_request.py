"""Read the JSON body of a request strictly, and at a cost that its size bounds."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from whinchat.server.api_schema import Limits
from whinchat.server.error_responses import quote

# A string with its quotes; a string that is never closed goes to the end. Possessive, so that a body is read once.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# What is left of a request without its strings: an object with at most one list, which holds only strings.
_ONLY_TEXTS = re.compile(rb"\s*\{[^\[\]{}]*\[[\s,]*\][^\[\]{}]*\}\s*")
# Values besides the texts: more than the fields of a request, so that the schema can name those it does not know.
_OTHER_VALUES = 64


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
    try:
        return json.loads(raw.decode(), parse_int=float, object_pairs_hook=_object)
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
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise HTTPException(422, f"the body has the key {quote(twice)} twice; send each key once")
    return found


def strict_json_route(limits: Limits) -> type[APIRoute]:
    """Return a class of routes whose body is read by ``read_json``, and must be declared as JSON."""

    class StrictRequest(Request):
        async def json(self) -> Any:
            # In a thread, because a body of megabytes takes tens of milliseconds.
            return await asyncio.to_thread(read_json, await self.body(), limits.max_texts)

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
