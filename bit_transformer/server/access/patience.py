"""How long and how large a request may be, and how long a client may take to read."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bit_transformer.server.access.answers import App, Message, Receive, Scope, Send, refuse
from bit_transformer.server.problems import Problem, problem

_SLOWEST = 16 << 10
"""Bytes a second, in the long run."""


class BoundedRequest:
    """Ends requests whose body is too large or comes too slowly, and answers nobody reads."""

    def __init__(
        self, app: App, most_bytes: Callable[[Scope], int], silence_seconds: float
    ) -> None:
        self._app, self._most_bytes, self._silence = app, most_bytes, silence_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._most_bytes(scope), self._silence)
        if exchange.announces_too_much():
            await refuse(scope, receive, send, exchange.too_large())
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            # What the application makes of a client that has gone is of no interest.
            if not exchange.ended:
                raise


class _Exchange:
    def __init__(
        self, scope: Scope, receive: Receive, send: Send, most: int, silence: float
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._most, self._silence = most, silence
        self._began, self._received = time.monotonic(), 0
        self._complete = self._started = False
        self.ended = False

    def announces_too_much(self) -> bool:
        """Whether the length in its header is above the bound."""
        lengths = [value for name, value in self._scope["headers"] if name == b"content-length"]
        return any(value.isdigit() and int(value) > self._most for value in lengths)

    def too_large(self) -> Problem:
        """What is said of a body above the bound."""
        detail = f"the body has more than {self._most:,} bytes, the most that are taken here"
        return problem(413, detail)

    async def receive(self) -> Message:
        """The next part of the request, within its bounds."""
        if self.ended:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        left = self._began + self._silence + self._received / _SLOWEST - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._silence, left))):
                message = await self._receive()
        except TimeoutError:
            detail = f"the request came too slowly; the server waits {self._silence:g} s for more"
            return await self._end(problem(408, detail))
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._received > self._most:
            return await self._end(self.too_large())
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer; the connection ends when nobody reads it."""
        if self.ended:
            return
        self._started = True
        try:
            async with asyncio.timeout(self._silence):
                await self._send(message)
        except TimeoutError:
            self.ended = True
            raise ConnectionResetError("the client reads no more") from None

    async def _end(self, why: Problem) -> dict[str, Any]:
        if not self._started:
            await refuse(self._scope, self._receive, self._send, why)
        self.ended = True
        return {"type": "http.disconnect"}
