"""Ends a training on a signal: saves the run, says so, and exits with the code of the signal."""

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
_REPEAT_SECONDS = 0.3
"""Further signals within this time count as the same one. A closed terminal sends SIGHUP from the
system and from the shell, and a wrapper forwards signals that its child has already received."""
_MESSAGE = (
    b"\nbit-transformer: the run stops after this step and is saved; a second signal ends it now\n"
)


class StopSignals(Callback):
    """Context that handles SIGINT, SIGTERM and SIGHUP. It works in the main thread only.

    The first signal ends the run after the present step and saves it. The second signal raises
    `Interrupted` at once, and so does the first one when there is nothing new to save: before the
    first step and after the run. That is safe, because checkpoints are written atomically.

    This is for runs of one process. A signal reaches only some processes, or reaches them in
    different steps, so several processes would have to agree on the step after which they stop.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that was received."""
        self._received_at = 0.0
        self._trainer: RunningTrainer | None = None
        self._begin = 0

    def __enter__(self) -> "StopSignals":
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_start(self, trainer: RunningTrainer) -> None:
        """Interrupt this run on a signal from now on."""
        self._trainer, self._begin = trainer, trainer.progress.step

    def on_close(self, trainer: RunningTrainer) -> None:
        """Interrupt no run from now on."""
        self._trainer = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminals()
        now = time.monotonic()
        if self.number is not None and now - self._received_at < _REPEAT_SECONDS:
            return
        first, self._received_at = self.number is None, now
        self.number = self.number or number
        trainer = self._trainer
        if not first or trainer is None or trainer.progress.step == self._begin:
            raise Interrupted(self.number)
        trainer.interrupt()
        with suppress(OSError):
            # A handler may interrupt a print, so it writes past Python's buffers.
            os.write(2, _MESSAGE)

    def _leave_terminals(self) -> None:
        """Send output to /dev/null, because writing to a closed terminal is an error."""
        null = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(null, number)
        os.close(null)


class _ForgivingStream(io.TextIOBase):
    """A text stream that ignores errors of writing, such as a closed pipe."""

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
    """Context in which writing to a closed stderr is ignored, so that it cannot end a run."""
    before = sys.stderr
    sys.stderr = _ForgivingStream(before)
    try:
        yield
    finally:
        sys.stderr = before
