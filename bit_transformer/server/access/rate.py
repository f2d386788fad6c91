"""How many requests an address may send: a token bucket for each address."""

import time
from collections import OrderedDict
from collections.abc import Callable

from bit_transformer.server.access.asgi import App, Receive, Scope, Send, refuse
from bit_transformer.server.problems import problem

_MAX_ADDRESSES = 4096


class RateLimit:
    """Answers 429 when the bucket of an address is empty."""

    def __init__(
        self, app: App, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._rate, self._burst, self._clock = app, per_second, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] in ("http", "websocket") and not self._take(scope):
            detail = (
                f"an address may send {self._rate:g} requests a second and {self._burst} at once "
                "(--requests-per-second, --burst); send fewer"
            )
            await refuse(scope, receive, send, problem(429, detail))
            return
        await self._app(scope, receive, send)

    def _take(self, scope: Scope) -> bool:
        address = (scope.get("client") or ("",))[0]
        now = self._clock()
        left, since = self._buckets.pop(address, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._rate)
        granted = left >= 1
        self._buckets[address] = (left - granted, now)
        # The bucket at the front was used longest ago.
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return granted
