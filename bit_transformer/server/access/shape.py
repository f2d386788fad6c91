"""How many values a JSON body may hold, and how deeply they may be nested.

To parse a megabyte with a hundred thousand keys, and to explain each unknown key, blocks the event
loop for seconds. So the shape of a body is checked before it is parsed. The check counts commas and
brackets in the bytes, which takes milliseconds and creates no objects.
"""

import re
from collections.abc import Callable

import anyio.to_thread

from bit_transformer.server.access.asgi import App, Message, Receive, Scope, Send, refuse
from bit_transformer.server.problems import Problem, problem

MAX_VALUES = 2000
MAX_DEPTH = 40
MAX_PARAMETERS = 100
_MAX_INLINE_BYTES = 16 << 10
"""Larger bodies are checked in a thread, so that they do not block the event loop."""


class BoundedShape:
    """Refuses requests with too many parameters, and JSON with too many values or levels.

    Requests without a route pass: nothing reads their body, and the application answers 404 or 405.
    """

    def __init__(self, app: App, has_route: Callable[[Scope], bool]) -> None:
        self._app, self._has_route = app, has_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. An upload is not JSON and passes unchecked."""
        if scope["type"] != "http" or not self._has_route(scope):
            await self._app(scope, receive, send)
            return
        given = scope["query_string"].count(b"&") + 1
        if given > MAX_PARAMETERS:
            detail = f"the address must have at most {MAX_PARAMETERS} parameters, got {given:,}"
            await refuse(scope, receive, send, problem(400, detail))
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            return
        wrong = await _check_off_loop(body)
        if wrong is not None:
            await refuse(scope, receive, send, wrong)
            return
        await self._app(scope, _replay(body, receive), send)


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if the client has disconnected."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body again, and then the later messages."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


async def _check_off_loop(body: bytes) -> Problem | None:
    if len(body) <= _MAX_INLINE_BYTES:
        return check_shape(body)
    return await anyio.to_thread.run_sync(check_shape, body)


def check_shape(body: bytes) -> Problem | None:
    """Return the problem with the shape of a JSON document, or None if it is within the limits."""
    if b"\0" in body:
        # In UTF-16 and UTF-32 the counts below would be wrong, and JSON in them holds zero bytes.
        return problem(400, "the body must be JSON in UTF-8, and it holds a zero byte")
    syntax = _outside_strings(body)
    values = syntax.count(b",") + syntax.count(b"[") + syntax.count(b"{")
    if values > MAX_VALUES:
        detail = (
            f"the body must hold at most {MAX_VALUES:,} values, got about {values:,}; upload long "
            "data as a file with PUT /files/NAME"
        )
        return problem(413, detail)
    depth = _depth(syntax)
    if depth > MAX_DEPTH:
        return problem(400, f"the body must be at most {MAX_DEPTH} levels deep, got {depth:,}")
    return None


def _outside_strings(body: bytes) -> bytes:
    """Return the body without the content of its strings."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])


def _depth(syntax: bytes) -> int:
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", syntax):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
