"""How large a request may be, and how long a client may take to send it and to read the response.

Without these limits a few slow clients could hold every connection (Slowloris).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bit_transformer.server.access.asgi import App, Message, Receive, Scope, Send, refuse
from bit_transformer.server.problems import Problem, problem

_MIN_BYTES_PER_SECOND = 16 << 10
"""Average over the whole body. It stops a client that sends a byte just before each timeout."""


class BoundedRequest:
    """Ends requests whose body is too large or too slow, and responses that nobody reads."""

    def __init__(self, app: App, max_bytes: Callable[[Scope], int], silence_seconds: float) -> None:
        self._app, self._max_bytes, self._silence = app, max_bytes, silence_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._max_bytes(scope), self._silence)
        if exchange.declares_too_much():
            await refuse(scope, receive, send, exchange.too_large())
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            # An error of the application is expected once the client has gone.
            if not exchange.ended:
                raise


class _Exchange:
    """One request and its response, within the limits."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_bytes: int, silence: float
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._max_bytes, self._silence = max_bytes, silence
        self._started_at, self._received = time.monotonic(), 0
        self._complete = self._started = False
        self.ended = False

    def declares_too_much(self) -> bool:
        """Return whether the Content-Length header is above the limit."""
        lengths = [value for name, value in self._scope["headers"] if name == b"content-length"]
        return any(value.isdigit() and int(value) > self._max_bytes for value in lengths)

    def too_large(self) -> Problem:
        """Return the problem of a body above the limit."""
        return problem(413, f"the body must have at most {self._max_bytes:,} bytes; it has more")

    async def receive(self) -> Message:
        """Return the next message, or answer with a problem if the request breaks a limit."""
        if self.ended:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        allowed = self._silence + self._received / _MIN_BYTES_PER_SECOND
        left = self._started_at + allowed - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._silence, left))):
                message = await self._receive()
        except TimeoutError:
            detail = f"the request came too slowly; the server waits {self._silence:g} s for data"
            return await self._end(problem(408, detail))
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._received > self._max_bytes:
            return await self._end(self.too_large())
        return message

    async def send(self, message: Message) -> None:
        """Send a message, and end the connection if the client does not read it in time."""
        if self.ended:
            return
        self._started = True
        try:
            async with asyncio.timeout(self._silence):
                await self._send(message)
        except TimeoutError:
            self.ended = True
            raise ConnectionResetError("the client has stopped reading") from None

    async def _end(self, why: Problem) -> dict[str, Any]:
        if not self._started:
            await refuse(self._scope, self._receive, self._send, why)
        self.ended = True
        return {"type": "http.disconnect"}
