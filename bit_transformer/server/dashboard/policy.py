"""Content security policies: one for the page, one for everything else the dashboard serves."""

import re
import secrets

from bit_transformer.server.access.asgi import App, Message, Receive, Scope, Send
from bit_transformer.server.access.headers import data_policy, page_policy

_SCRIPT = re.compile(rb"<script(?=[\s>])")


class PagePolicy:
    """ASGI middleware that lets the browser run only the scripts that a page is sent with.

    The scripts of each page carry a fresh nonce. Text of a model or a user reaches the page later
    and cannot contain the nonce, so a script in it does not run.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the policy to the response."""
        if scope["type"] == "http":
            await self._app(scope, receive, _Response(send).send)
        else:
            await self._app(scope, receive, send)


class _Response:
    """One response. An HTML page is buffered until it is complete, to add the nonce."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Send a message of the response."""
        if message["type"] == "http.response.start":
            if not _is_html(message):
                await self._send(_with(message, data_policy()))
                return
            self._head = message
        elif self._head is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_page(self._head)

    async def _send_page(self, head: Message) -> None:
        nonce = secrets.token_urlsafe(16)
        body = _SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), self._body)
        headers = [pair for pair in head["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send(_with({**head, "headers": headers}, page_policy(nonce)))
        await self._send({"type": "http.response.body", "body": body})


def _is_html(message: Message) -> bool:
    kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
    return any(kind.startswith(b"text/html") for kind in kinds)


def _with(message: Message, policy: str) -> Message:
    added = (b"content-security-policy", policy.encode())
    return {**message, "headers": [*message["headers"], added]}
