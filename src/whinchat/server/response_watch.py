"""What every response has in common: security headers, metrics, access log, and HEAD wherever GET is answered."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whinchat.server.access_log import log_request
from whinchat.server.access_rules import OPEN_PATHS
from whinchat.server.server_metrics import ServerMetrics

# Content security policy: the page loads its own files and figures, and asks this server; nothing else.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Report and card contain styles, and no script. The sandbox also bars forms and the refresh of a page by its head.
STYLED_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-same-origin"
)
# A figure is an image; opened as a page, an SVG file would run the scripts that it contains.
FIGURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
SECURITY_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ResponseWatch:
    """Middleware around all others."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})  # the routes count their texts there
        is_head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if is_head else scope
        status: int | None = None

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(inner, receive, watched_send)
        finally:
            # The route, and not the address: clients could make up any number of addresses.
            path = getattr(inner.get("route"), "path", "other")
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(path, "none" if status is None else str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            if scope["path"] not in OPEN_PATHS:
                log_request(scope, status, seconds)
