"""Ends a training on a signal: saved, said, and with an exit code that tells."""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from bit_transformer.errors import Interrupted
from bit_transformer.training.callbacks.base import Callback, RunningTrainer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_WISH = 0.3
"""Seconds within which signals are one wish: a closed terminal is told by the system and by the
shell, and a wrapper passes on what its child was told already."""
_HEARD = (
    b"\nbit-transformer: the run stops after this step and is saved; a second signal ends it now\n"
)


class StopSignals(Callback):
    """Hears SIGINT, SIGTERM and SIGHUP as long as its context lasts; in the main thread only.

    The first one interrupts the run after the step under way, saved. Where there is nothing new to
    save, before the first step is done and after the run, and the second time, it raises
    `Interrupted` at once; a checkpoint is whole at any moment.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that was heard."""
        self._heard_at = 0.0
        self._trainer: RunningTrainer | None = None
        self._begin = 0

    def __enter__(self) -> "StopSignals":
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_start(self, trainer: RunningTrainer) -> None:
        """From here on there is a run to interrupt."""
        self._trainer, self._begin = trainer, trainer.progress.step

    def on_close(self, trainer: RunningTrainer) -> None:
        """There is none any more."""
        self._trainer = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminals()
        now = time.monotonic()
        if self.number is not None and now - self._heard_at < _ONE_WISH:
            return
        first, self._heard_at = self.number is None, now
        self.number = self.number or number
        trainer = self._trainer
        if not first or trainer is None or trainer.progress.step == self._begin:
            raise Interrupted(self.number)
        trainer.interrupt()
        with suppress(OSError):
            os.write(2, _HEARD)

    def _leave_terminals(self) -> None:
        """Write nowhere from now on where a terminal was: every further word would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)


class _Lasting(io.TextIOBase):
    """A text stream that goes on as if nothing had happened when its reader is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._stream.encoding)


@contextmanager
def lasting_stderr() -> Iterator[None]:
    """Progress is for whoever looks: that nobody looks any more must not end a run."""
    before = sys.stderr
    sys.stderr = _Lasting(before)
    try:
        yield
    finally:
        sys.stderr = before
