"""Who may ask the server: the names that it answers to, pages of other sites, and the key."""

import base64
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whinchat.errors import WhinchatError
from whinchat.server.api_key import check_api_key
from whinchat.server.error_responses import error_response, quote

# Orchestrators ask these without a key, and by whatever name they know.
OPEN_PATHS = ("/health", "/ready")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERY_ADDRESS = ("0.0.0.0", "::", "")
_CHALLENGES = (("WWW-Authenticate", 'Basic realm="whinchat", charset="UTF-8"'), ("WWW-Authenticate", "Bearer"))


@dataclass(frozen=True)
class AccessRules:
    """Which requests the server answers.

    A page of another site can let a browser send requests to this machine. The browser names that site in ``Origin``;
    and where a name of the attacker's leads to this machine (DNS rebinding), it has that name in ``Host``.

    Attributes:
        own_hosts: names and addresses of this server, in lower case, without port and brackets.
        trusted_hosts: further names, also of pages that may send requests, such as that of a proxy. With ``*``
            the server answers to every name, and still only to its own pages.
        any_address: whether the server also answers to every IP address, for which no name can be made to stand.
        allowed_origins: sites whose pages may send requests and read the responses (CORS), such as
            ``https://app.example.com``.
        api_key: the key that every request must have; None for no key.
    """

    own_hosts: frozenset[str] = frozenset(_LOOPBACK)
    trusted_hosts: frozenset[str] = frozenset()
    any_address: bool = False
    allowed_origins: frozenset[str] = frozenset()
    api_key: str | None = None

    @classmethod
    def build(
        cls, bound_host: str, allowed_hosts: Iterable[str], api_key: str | None, allowed_origins: Iterable[str] = ()
    ) -> Self:
        """Return the rules of a server that listens on ``bound_host``.

        Raises:
            WhinchatError: an origin is none, or the key is empty or cannot be sent in a header.
        """
        if api_key is not None:
            check_api_key(api_key, "api_key")
        origins = frozenset(map(_origin, allowed_origins))
        own = {*_LOOPBACK, bound_host.lower()}
        if bound_host in _EVERY_ADDRESS:
            own.add(socket.gethostname().lower())
        trusted = frozenset(_host_name(host) for host in allowed_hosts)
        return cls(frozenset(own), trusted, bound_host in _EVERY_ADDRESS, origins, api_key)

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach the server."""
        return self.any_address or not self.own_hosts <= set(_LOOPBACK)

    def fault(self, headers: Headers) -> tuple[int, str] | None:
        """Return status and reason for which a request with these headers is refused; None where it is not."""
        host, origin = headers.get("host"), headers.get("origin")
        if host is not None and not self._knows(_host_name(host)):
            return 403, f"Host: {quote(host)} is no name of this server; allow it with --allowed-host"
        if origin is not None and not self._trusts(origin, host or ""):
            return 403, f"Origin: {quote(origin)} is another site; allow it with --allowed-origin"
        if self.api_key is not None and not self._has_key(headers.get("authorization", "")):
            return 401, "Authorization: has no valid key; send `Bearer KEY`, or the key as the password of any user"
        return None

    def _knows(self, host: str) -> bool:
        allowed = host in self.own_hosts or not self.trusted_hosts.isdisjoint((host, "*"))
        return allowed or (self.any_address and _is_address(host))

    def _trusts(self, origin: str, host: str) -> bool:
        if origin.lower() in self.allowed_origins:
            return True
        scheme, _, netloc = origin.lower().partition("://")
        if scheme not in ("http", "https"):
            return False  # such as "null", of a file or a sandbox
        return netloc == host.lower() or _host_name(netloc) in self.trusted_hosts

    def _has_key(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except ValueError:  # no base64, or no UTF-8
                return False
            credentials = decoded.partition(":")[2]
        elif scheme.lower() != "bearer":
            return False
        assert self.api_key is not None
        return secrets.compare_digest(credentials.strip().encode(), self.api_key.encode())


class AccessControl:
    """Middleware that refuses the requests that the rules do not allow."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        if fault := self._rules.fault(Headers(scope=scope)):
            status, reason = fault
            response = error_response(status, reason, path=scope["path"])
            if status == 401:
                for name, value in _CHALLENGES:
                    response.headers.append(name, value)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _origin(origin: str) -> str:
    """Return an origin as a browser sends it: in lower case, without a slash at the end and the scheme's own port."""
    found = re.fullmatch(r"(https?)://([^\s/?#@*]+)/?", origin.strip().lower())
    if not found:
        raise WhinchatError(
            f"--allowed-origin: {quote(origin)} is no site; give scheme and name, such as https://app.example.com"
        )
    scheme, netloc = found.groups()
    return f"{scheme}://{netloc.removesuffix(':443' if scheme == 'https' else ':80')}"


def _host_name(host: str) -> str:
    """Return a host in lower case without its port, and an IPv6 address without its brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, _, port = host.rpartition(":")
    return name.rstrip(".") if name and ":" not in name and port.isdigit() else host.rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
