"""Which Host and Origin headers are let in: no page of another site may speak to the server, by a
name of its own (DNS rebinding) or by ours (cross-site requests and websockets)."""

import ipaddress
from collections.abc import Iterable

from bit_transformer.server.access.answers import (
    App,
    Receive,
    Scope,
    Send,
    has_header,
    header,
    refuse,
)
from bit_transformer.server.problems import problem

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SameSite:
    """Lets in requests to names of ours, from no page or from one of ours."""

    def __init__(self, app: App, hosts: Iterable[str], origins: Iterable[str] = ()) -> None:
        """`hosts` as in a Host header, with port; `origins` beside `http://` and `https://` of
        those."""
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}
        for host in self._hosts:
            self._origins |= {f"http://{host}", f"https://{host}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] in ("http", "websocket"):
            if not _is_in(header(scope, b"host"), self._hosts):
                detail = "this server has another name; --allow-host lets a name in"
                await refuse(scope, receive, send, problem(400, detail, kind="foreign-host"))
                return
            if has_header(scope, b"origin") and not _is_in(header(scope, b"origin"), self._origins):
                detail = "pages of that origin may not ask; --allow-origin lets one in"
                await refuse(scope, receive, send, problem(403, detail, kind="foreign-origin"))
                return
        await self._app(scope, receive, send)


def own_hosts(host: str, port: int) -> list[str]:
    """The Host headers of whoever reaches a server bound to that address directly."""
    names = dict.fromkeys((*_LOOPBACK, in_url(host)))
    bare = list(names) if port in (80, 443) else []
    return [f"{name}:{port}" for name in names] + bare


def in_url(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_in(value: bytes | None, allowed: set[str]) -> bool:
    return value is not None and value.decode("latin-1").lower() in allowed
