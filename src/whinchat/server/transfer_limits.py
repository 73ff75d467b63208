"""Limits on what a client sends: bytes, time, and bodies held in memory. A client that has gone ends its request."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whinchat.server.access_rules import OPEN_PATHS
from whinchat.server.api_schema import Limits
from whinchat.server.error_responses import busy, error_response

TABLE_PATH = "/v1/table"
# The key in a request's state under which the protocol marks a connection beyond the limit.
OVER_CAPACITY = "over_capacity"
# How many of the largest bodies the server holds at once.
_HELD_BODIES = 8


class TransferLimits:
    """Middleware that passes bodies on within the limits, and cancels the requests of clients who have gone.

    The size is checked before a byte is read where the request states it, and as the bytes come in any case. A table
    goes to a file as it comes; all other bodies are held in memory, so their sum is limited too.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_table = scope["path"] == TABLE_PATH
        max_bytes = self._limits.max_table_bytes if is_table else self._limits.max_body_bytes
        try:
            self._check_head(scope, max_bytes)
        except HTTPException as refusal:
            response = error_response(refusal.status_code, refusal.detail, refusal.headers, scope["path"])
            await response(scope, receive, send)
            return
        held_bytes = 0

        def hold(count: int) -> None:
            nonlocal held_bytes
            if self._held_bytes + count > _HELD_BODIES * self._limits.max_body_bytes:
                raise busy("other large requests are being answered", _retry_seconds(scope))
            self._held_bytes += count
            held_bytes += count

        body = _Body(receive, self._limits, max_bytes, (lambda count: None) if is_table else hold)
        try:
            await _run_until_gone(self._app, scope, body, send)
        finally:
            self._held_bytes -= held_bytes

    def _check_head(self, scope: Scope, max_bytes: int) -> None:
        """Refuse a request by its head: there are too many connections, or the body is compressed or too long."""
        if scope.get("state", {}).get(OVER_CAPACITY) and scope["path"] not in OPEN_PATHS:
            count = self._limits.max_connections
            raise busy(f"the server has {count:,} connections already", _retry_seconds(scope), 503)
        headers = Headers(scope=scope)
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise HTTPException(415, "Content-Encoding: is not supported; send the body uncompressed")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > max_bytes:
            raise _too_long(max_bytes)


class _Body:
    """The body of one request as it comes: ``receive`` is that of the request, within the limits.

    Args:
        receive: the request's own.
        limits: the time that the body may take.
        max_bytes: the largest body.
        hold: called with the number of bytes that came.
    """

    def __init__(self, receive: Receive, limits: Limits, max_bytes: int, hold: Callable[[int], None]) -> None:
        self._receive, self._limits, self._max_bytes, self._hold = receive, limits, max_bytes, hold
        self._started: float | None = None
        self._seen = 0
        self._complete = asyncio.Event()

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: status 408 if the body comes too slowly, 413 if it is too long, 429 if memory is short.
        """
        if self._complete.is_set():
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._started is None:
            self._started = loop.time()
        seconds = self._limits.transfer_seconds + self._seen / self._limits.min_bytes_per_second
        try:
            async with asyncio.timeout_at(self._started + seconds):
                message = await self._receive()
        except TimeoutError:
            fault = f"the body has not arrived in {seconds:.0f} seconds; send it faster, or less in one request"
            raise HTTPException(408, fault, {"Connection": "close"}) from None
        count = len(message.get("body", b""))
        self._seen += count
        if self._seen > self._max_bytes:
            raise _too_long(self._max_bytes)
        self._hold(count)
        if not message.get("more_body", False):
            self._complete.set()
        return message

    async def wait_until_gone(self) -> None:
        """Block until the whole body has come and the client has disconnected."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _run_until_gone(app: ASGIApp, scope: Scope, body: _Body, send: Send) -> None:
    """Run ``app``, and cancel it when its client disconnects before the end of the response."""
    finished = False

    async def watched_send(message: Message) -> None:
        nonlocal finished
        finished = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    work = asyncio.ensure_future(app(scope, body.receive, watched_send))
    gone = asyncio.create_task(body.wait_until_gone())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not finished:
            work.cancel()  # without effect on work that is done
        await asyncio.wait((work,))
        if not work.cancelled():
            work.result()
    finally:
        # The request is cancelled as a whole where the server stops before the response is finished.
        work.cancel()
        gone.cancel()


def _retry_seconds(scope: Scope) -> int:
    """Return the time in which the requests that hold connections and bodies now will be answered."""
    seconds: int = scope["app"].state.batcher.retry_seconds
    return seconds


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {max_bytes:,} bytes; send less in one request")
