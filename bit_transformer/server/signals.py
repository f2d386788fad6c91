"""Ends a server cleanly on a signal, whenever the signal arrives."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bit_transformer.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Context for a run of uvicorn: raises the signal that ended the run, after it has ended.

    While uvicorn serves, SIGINT and SIGTERM make it finish its requests. A signal during start-up,
    and SIGHUP at any time, would instead raise inside its event loop. So these are held back until
    uvicorn serves, and then passed on as SIGTERM. A signal that the caller ignores, as with
    `nohup`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    relay = _SignalRelay()
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    before = {one: handler for one, handler in before.items() if handler is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, relay.handle)
    try:
        yield
    finally:
        relay.over.set()
        for one, handler in before.items():
            signal.signal(one, handler)
    if relay.received:
        number = relay.received[0]
        raise KeyboardInterrupt if number == signal.SIGINT else Interrupted(number)


class _SignalRelay:
    """Records signals, and sends uvicorn a SIGTERM once it has installed its own handler."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.over = threading.Event()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) == 1:
            threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self) -> None:
        while not self.over.is_set():
            if signal.getsignal(signal.SIGTERM) != self.handle:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.02)
