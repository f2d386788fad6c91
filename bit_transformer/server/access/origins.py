"""Which Host and Origin headers are accepted.

The check of Host stops DNS rebinding, where a foreign site points its own name at this server. The
check of Origin stops pages of other sites that send requests or open websockets.
"""

import ipaddress
from collections.abc import Iterable

from bit_transformer.server.access.asgi import App, Receive, Scope, Send, has_header, header, refuse
from bit_transformer.server.problems import problem

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SameSite:
    """Accepts requests to known hosts that come from no page or from a page of a known origin."""

    def __init__(self, app: App, hosts: Iterable[str], origins: Iterable[str] = ()) -> None:
        """Accept `hosts`, as in a Host header with port, and their origins besides `origins`."""
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}
        for host in self._hosts:
            self._origins |= {f"http://{host}", f"https://{host}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] in ("http", "websocket"):
            if not _is_in(header(scope, b"host"), self._hosts):
                detail = "the Host header does not name this server; --allow-host adds a name"
                await refuse(scope, receive, send, problem(400, detail, kind="foreign-host"))
                return
            if has_header(scope, b"origin") and not _is_in(header(scope, b"origin"), self._origins):
                detail = "pages of this origin are not allowed; --allow-origin adds an origin"
                await refuse(scope, receive, send, problem(403, detail, kind="foreign-origin"))
                return
        await self._app(scope, receive, send)


def own_hosts(host: str, port: int) -> list[str]:
    """Return the Host headers that clients send to a server bound to this address."""
    names = dict.fromkeys((*_LOOPBACK, host_in_url(host)))
    # Clients leave out the default ports of http and https.
    bare = list(names) if port in (80, 443) else []
    return [f"{name}:{port}" for name in names] + bare


def host_in_url(host: str) -> str:
    """Return an address as it is written in a URL, an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_in(value: bytes | None, allowed: set[str]) -> bool:
    return value is not None and value.decode("latin-1").lower() in allowed
