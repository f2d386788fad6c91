"""How many values a request may hold and how deeply they may lie in each other.

Reading a body of a megabyte with a hundred thousand keys, and saying of each why it is wrong, takes
the event loop seconds. So the shape of a body is looked at before anybody reads it. Commas and
brackets are counted in the bytes, which takes milliseconds and makes no objects.
"""

import re
from collections.abc import Callable

import anyio.to_thread

from bit_transformer.server.access.answers import App, Message, Receive, Scope, Send, refuse
from bit_transformer.server.problems import Problem, problem

MOST_VALUES = 2000
MOST_DEPTH = 40
MOST_PARAMETERS = 100
_AT_ONCE = 16 << 10
"""Bytes that are looked at in the event loop; larger bodies in a thread."""


class BoundedShape:
    """Refuses requests of too many parameters, and JSON of too many values or too deep.

    `is_answered` says whether the application has an answer to this method at this address. Where
    it has none, nothing reads the body, and the application says which of the two is wrong.
    """

    def __init__(self, app: App, is_answered: Callable[[Scope], bool]) -> None:
        self._app, self._is_answered = app, is_answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; an upload is not JSON and passes as it comes."""
        if scope["type"] != "http" or not self._is_answered(scope):
            await self._app(scope, receive, send)
            return
        given = scope["query_string"].count(b"&") + 1
        if given > MOST_PARAMETERS:
            detail = f"the address has {given:,} parameters, at most {MOST_PARAMETERS} are taken"
            await refuse(scope, receive, send, problem(400, detail))
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:
            return
        wrong = await _judged(body)
        if wrong is not None:
            await refuse(scope, receive, send, wrong)
            return
        await self._app(scope, _replayed(body, receive), send)


async def _whole_body(receive: Receive) -> bytes | None:
    """The body; None where the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives the body once more, and then what really comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


async def _judged(body: bytes) -> Problem | None:
    if len(body) <= _AT_ONCE:
        return judge(body)
    return await anyio.to_thread.run_sync(judge, body)


def judge(body: bytes) -> Problem | None:
    """What is wrong with the shape of a JSON document; None where nothing is."""
    if b"\0" in body:
        # Other encodings of Unicode, in which the signs below would be told wrongly.
        return problem(400, "the body is not JSON in UTF-8: it holds a zero byte")
    signs = _outside_strings(body)
    values = signs.count(b",") + signs.count(b"[") + signs.count(b"{")
    if values > MOST_VALUES:
        detail = (
            f"the body holds about {values:,} values, at most {MOST_VALUES:,} are taken; upload "
            "long data as a file with PUT /files/NAME"
        )
        return problem(413, detail)
    depth = _depth(signs)
    if depth > MOST_DEPTH:
        detail = f"the body is nested {depth:,} levels deep, at most {MOST_DEPTH} are taken"
        return problem(400, detail)
    return None


def _outside_strings(body: bytes) -> bytes:
    """The body without the content of its strings."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])


def _depth(signs: bytes) -> int:
    now = most = 0
    for sign in re.findall(rb"[\[\]{}]", signs):
        now += 1 if sign in b"[{" else -1
        most = max(most, now)
    return most
