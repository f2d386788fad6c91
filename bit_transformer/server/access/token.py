"""The bearer token: where it is kept, and the layer that asks for it."""

import hmac
import os
import re
import secrets
from pathlib import Path

from bit_transformer.checkpoint.atomic import storage_errors
from bit_transformer.errors import ConfigError
from bit_transformer.server.access.answers import App, Receive, Scope, Send, header, refuse
from bit_transformer.server.problems import problem

_LEAST = 16
_PUBLIC = frozenset({"/health"})


class BearerToken:
    """Lets in who knows the token; compares in constant time."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        guarded = scope["type"] in ("http", "websocket") and scope["path"] not in _PUBLIC
        if guarded and not self._is_known(header(scope, b"authorization")):
            detail = (
                "this needs the header `Authorization: Bearer TOKEN`; the server keeps the token "
                "in .server/token of its runs folder"
            )
            await refuse(scope, receive, send, problem(401, detail))
            return
        await self._app(scope, receive, send)

    def _is_known(self, given: bytes | None) -> bool:
        return hmac.compare_digest(given or b"", self._expected)


def settle_token(path: Path, given: str | None) -> str:
    """The token that was given, else the one of the file, else a new one; kept in the file, which
    only its owner may read. Raises `ConfigError` for a weak one or a file that others may read."""
    if given is None and path.exists():
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others; `chmod 600` it, or remove it")
        given = path.read_text(encoding="utf-8").strip()
    token = secrets.token_urlsafe(32) if given is None else given
    if not re.fullmatch(rf"[\x21-\x7e]{{{_LEAST},}}", token):
        raise ConfigError(
            f"a token has at least {_LEAST} visible ASCII characters and no spaces, this one has "
            f"{len(token)}; leave it out to have one made"
        )
    with storage_errors(path):
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
    return token
