"""The server's end of a connection: uvicorn's, with limits of time, and of the number of connections."""

import asyncio
from typing import Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from whinchat.server.api_schema import Limits
from whinchat.server.error_responses import error_response
from whinchat.server.response_watch import SECURITY_HEADERS
from whinchat.server.transfer_limits import OVER_CAPACITY


class LimitedProtocol(H11Protocol):
    """An HTTP/1.1 connection that no client can hold open by sending or reading slowly.

    A request's head must arrive in ``limits.head_seconds``, counted from the connection or from the head's first byte,
    and so must the rest of a body that has been refused. A response must be taken at ``limits.min_bytes_per_second``.

    Between two requests a connection may be idle for ``limits.idle_seconds``. A request that crosses the closing of its
    connection is lost, so this time is longer than that of most clients, who then close first. Where there are too many
    connections, the one that has been idle longest makes room.

    Args:
        limits: the limits.
        uvicorn_arguments: those of every protocol of uvicorn.
    """

    def __init__(self, limits: Limits, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._limits = limits
        self._has_answered = False
        self._idle_since = 0.0
        self._awaited: Literal["head", "idle"] | None = None
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._close_longest_idle()
        count = len(self.connections)
        if count > 2 * self._limits.max_connections:
            transport.abort()
            return
        self._mark_over_capacity(count > self._limits.max_connections)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._request_timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if len(self.connections) <= self._limits.max_connections:
            self._mark_over_capacity(False)
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's own time for an idle connection
        self._has_answered, self._idle_since = True, self.loop.time()
        self._await_request()

    def shutdown(self) -> None:
        super().shutdown()
        if self._is_under_way:
            # A client that is not told would send its next request to a connection that closes.
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    @property
    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_idle(self) -> bool:
        """Whether a request has been answered, and no byte of the next one has come."""
        between = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        return self._has_answered and between and not self.conn.trailing_data[0] and not self.transport.is_closing()

    def _close_longest_idle(self) -> None:
        idle = [one for one in self.connections if isinstance(one, LimitedProtocol) and one._is_idle]
        if idle:
            longest = min(idle, key=lambda one: one._idle_since)
            longest.transport.close()
            self.connections.discard(longest)

    def _mark_over_capacity(self, is_over: bool) -> None:
        self.app_state = {**self.app_state, OVER_CAPACITY: is_over}

    def _await_request(self) -> None:
        """Limit the time for a head, or without one; the time goes on where what is awaited is the same."""
        awaited: Literal["head", "idle"] | None = None if self._is_under_way else "idle" if self._is_idle else "head"
        if awaited == self._awaited:
            return
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._awaited, self._request_timer = awaited, None
        if awaited is not None:
            seconds = self._limits.head_seconds if awaited == "head" else self._limits.idle_seconds
            self._request_timer = self.loop.call_later(seconds, self._end_connection)

    def _end_connection(self) -> None:
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
