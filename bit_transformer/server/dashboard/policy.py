"""The content security policy of the page, and of everything else that the dashboard serves."""

import re
import secrets

from bit_transformer.server.access.asgi import App, Message, Receive, Scope, Send
from bit_transformer.server.access.headers import data_policy, page_policy

_SCRIPT = re.compile(rb"<script(?=[\s>])")


class PagePolicy:
    """Has a browser run only the scripts that were on the page when it was made.

    Each page has a nonce of its own, which its scripts carry. What a model or a visitor writes
    comes later and cannot know it.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            await self._app(scope, receive, _Answer(send).send)
        else:
            await self._app(scope, receive, send)


class _Answer:
    """One answer; a page is held back until it is whole."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            if not _is_page(message):
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


def _is_page(message: Message) -> bool:
    kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
    return any(kind.startswith(b"text/html") for kind in kinds)


def _with(message: Message, policy: str) -> Message:
    added = (b"content-security-policy", policy.encode())
    return {**message, "headers": [*message["headers"], added]}
