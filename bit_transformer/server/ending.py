"""A signal ends a server in order, whenever it comes."""

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
def ends_in_order() -> Iterator[None]:
    """Around all that uvicorn does, raises at its end the signal that asked for it.

    Once it serves, uvicorn lets requests end at SIGINT and SIGTERM. A signal that comes while it
    starts, and SIGHUP, which it does not know, would be raised in the midst of its loop; they are
    kept until it serves and reach it as SIGTERM. A signal that the caller has ignored, as `nohup`
    does, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear = _Ear()
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    before = {one: handler for one, handler in before.items() if handler is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, ear.hear)
    try:
        yield
    finally:
        ear.over.set()
        for one, handler in before.items():
            signal.signal(one, handler)
    if ear.heard:
        number = ear.heard[0]
        raise KeyboardInterrupt if number == signal.SIGINT else Interrupted(number)


class _Ear:
    """Hears signals that uvicorn does not, and tells it when it listens."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.over = threading.Event()

    def hear(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)
        if len(self.heard) == 1:
            threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        while not self.over.is_set():
            if signal.getsignal(signal.SIGTERM) != self.hear:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.02)
