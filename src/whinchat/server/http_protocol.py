"""The server's end of a connection: uvicorn's, with limits of time, and of the number of connections."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from whinchat.server.api_schema import Limits
from whinchat.server.error_responses import error_response
from whinchat.server.response_watch import SECURITY_HEADERS
from whinchat.server.transfer_limits import OVER_CAPACITY


class LimitedProtocol(H11Protocol):
    """An HTTP/1.1 connection that no client can hold open by sending or reading slowly.

    uvicorn itself closes idle connections only between two requests. Here a request's head must arrive in
    ``limits.head_seconds``, counted from the connection or from the last response, so a body that goes on after its
    refusal is cut off as well. A response must be taken at ``limits.min_bytes_per_second``.

    Args:
        limits: the limits.
        uvicorn_arguments: those of every protocol of uvicorn.
    """

    def __init__(self, limits: Limits, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._limits = limits
        self._has_answered = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        count = len(self.connections)
        if count > 2 * self._limits.max_connections:
            transport.abort()
            return
        self.app_state = {**self.app_state, OVER_CAPACITY: count > self._limits.max_connections}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._has_answered = True
        self._await_head()

    def _await_head(self) -> None:
        """Start the time for a head where none has started, and end the time where a request is under way."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif not under_way and self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head_seconds, self._end_slow_head)

    def _end_slow_head(self) -> None:
        if not self._has_answered and self.conn.our_state is h11.IDLE:
            self._refuse(408, f"no request has arrived in {self._limits.head_seconds:g} seconds")
        else:
            self.transport.close()
        self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _await_reader(self) -> None:
        """Start the time in which the client must take a part of the bytes that are waiting for it."""
        self._stop_write_timer()
        if size := self.transport.get_write_buffer_size():
            self._write_timer = self.loop.call_later(self._limits.transfer_seconds, self._check_reader, size)

    def _check_reader(self, size: int) -> None:
        taken = size - self.transport.get_write_buffer_size()
        if taken < size and taken < self._limits.transfer_seconds * self._limits.min_bytes_per_second:
            self.transport.abort()
        else:
            self._await_reader()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, "this is no HTTP request, or its head is too long")
        else:  # in the middle of a response
            self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer where there is no request to answer, and close the connection."""
        response = error_response(status, detail, {**SECURITY_HEADERS, "Connection": "close"})
        events: list[Any] = [
            h11.Response(status_code=status, headers=response.raw_headers, reason=b""),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
