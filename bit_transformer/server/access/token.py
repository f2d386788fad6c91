"""The bearer token: its file, and the layer that requires it."""

import hmac
import os
import re
import secrets
from pathlib import Path

from bit_transformer.atomic import storage_errors
from bit_transformer.errors import ConfigError
from bit_transformer.server.access.asgi import App, Receive, Scope, Send, header, refuse
from bit_transformer.server.problems import problem

_MIN_LENGTH = 16
_PUBLIC = frozenset({"/health"})


class BearerToken:
    """Accepts requests that carry the token, which is compared in constant time."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        guarded = scope["type"] in ("http", "websocket") and scope["path"] not in _PUBLIC
        if guarded and not self._is_known(header(scope, b"authorization")):
            detail = (
                "the request needs the header `Authorization: Bearer TOKEN`; the token is in "
                ".server/token of the server's runs folder"
            )
            await refuse(scope, receive, send, problem(401, detail))
            return
        await self._app(scope, receive, send)

    def _is_known(self, given: bytes | None) -> bool:
        return hmac.compare_digest(given or b"", self._expected)


def resolve_token(path: Path, given: str | None) -> str:
    """Return the given token, else the token in the file, else a new one, and store it there.

    Raises `ConfigError` if the token is weak or if other users can read the file.
    """
    if given is None and path.exists():
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others; run `chmod 600` on it, or remove it")
        given = path.read_text(encoding="utf-8").strip()
    token = secrets.token_urlsafe(32) if given is None else given
    if not re.fullmatch(rf"[\x21-\x7e]{{{_MIN_LENGTH},}}", token):
        raise ConfigError(
            f"the token must have at least {_MIN_LENGTH} visible ASCII characters and no spaces, "
            f"got {len(token)} characters; leave it out and the server makes one"
        )
    with storage_errors(path):
        # O_EXCL on a fresh path: nobody can have opened the file before its mode is set.
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
    return token
