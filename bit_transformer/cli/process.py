"""What a command line owes the process it runs in: streams that exist, signals that clean up."""

import _thread
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from bit_transformer.errors import Interrupted, SourceError, StorageError


class ClosedInput(io.TextIOBase):
    """Standard input that the caller has closed: reading it is an error, not the end of a file."""

    @property
    def buffer(self) -> NoReturn:
        """Where bytes would come from."""
        raise SourceError("standard input is closed; name a file, or give it something to read")

    def read(self, size: int | None = -1, /) -> str:
        """Refuses."""
        return str(self.buffer.read())


class _ClosedBytes(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raise StorageError("cannot write to standard output: it is closed")


class ClosedOutput(io.TextIOBase):
    """Standard output that the caller has closed: what is written is not lost in silence."""

    encoding = "utf-8"

    @property
    def buffer(self) -> "_ClosedBytes":
        """Where bytes would go."""
        return _ClosedBytes()

    def write(self, text: str, /) -> int:
        """Refuses."""
        return self.buffer.write(text.encode())


def prepare_streams() -> None:
    """Make the standard streams safe to use: none is missing, and all text can be printed.

    A closed descriptor is opened on the null device, or the next file that is opened would take its
    number and get what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    if sys.stdin is None:
        sys.stdin = ClosedInput()
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale without a letter, or a file name that is no text, ends no command.
            stream.reconfigure(errors="backslashreplace")


class LogLines(logging.Handler):
    """Shows what the package logs as lines on standard error, as it is at that moment: a progress
    bar may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; where nobody can be told, the work goes on."""
        with suppress(OSError, ValueError):
            print(f"bit-transformer: {record.getMessage()}", file=sys.stderr, flush=True)


def show_log() -> None:
    """Show warnings, and what a wait is for, while a command runs."""
    log = logging.getLogger("bit_transformer")
    if not any(isinstance(handler, LogLines) for handler in log.handlers):
        log.addHandler(LogLines())
    log.setLevel(logging.INFO)


def output_error() -> OSError | None:
    """What is wrong with standard output: flushing what was printed fails the same way again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    except ValueError:
        return None
    return None


def drop_output() -> None:
    """Nothing that is still unwritten may fail once more when the process ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        sys.stdout.flush()


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Interrupted` in the main thread, once; further ones are ignored, so
    that what the first one has begun to clean up is cleaned up.

    A signal that the caller has ignored, as `nohup` does, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        if not told:
            told.append(number)
            raise Interrupted(number)

    def tell_again(unraisable: "sys.UnraisableHookArgs") -> None:
        """An interrupt that hit a finalizer, which cannot raise it, comes once more."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        told.clear()
        number = error.signal_number if isinstance(error, Interrupted) else signal.SIGINT
        _thread.interrupt_main(signal.Signals(number))

    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    hook = sys.unraisablehook
    for number in numbers:
        signal.signal(number, tell)
    sys.unraisablehook = tell_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def leave_to_the_system() -> None:
    """From here on a signal ends the process at once; there is nothing left to clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
