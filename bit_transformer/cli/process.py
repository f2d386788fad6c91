"""The process of a command: standard streams, log lines and signals."""

from __future__ import annotations

import _thread
import codecs
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bit_transformer.errors import BitTransformerError, Interrupted, SourceError, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn, TextIO


class ClosedInput(io.TextIOBase):
    """Stands for a closed standard input: reading it is an error, not the end of a file."""

    @property
    def buffer(self) -> NoReturn:
        """Raise `SourceError`; there are no bytes."""
        raise SourceError("standard input is closed; name a file, or redirect one into it")

    def read(self, size: int | None = -1, /) -> str:
        """Raise `SourceError`."""
        return str(self.buffer.read())


class Output(io.FileIO):
    """Standard output whose errors are `StorageError`, wherever the program prints."""

    def write(self, data: Any, /) -> int:
        """Write bytes and return how many were written.

        Raises `BrokenPipeError` if the reader is gone, and `StorageError` for any other failure.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StorageError(f"cannot write to standard output: {reason}") from error


class Errors(io.FileIO):
    """Standard error that ignores failed writes: the work continues, and the exit code remains."""

    def write(self, data: Any, /) -> int:
        """Write bytes and return how many were written or dropped."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


class ClosedOutput(io.RawIOBase):
    """Stands for a closed standard output: writing to it is an error, so that nothing is lost."""

    def writable(self) -> bool:
        """Return True; `write` reports the error."""
        return True

    def write(self, data: Any, /) -> int:
        """Raise `StorageError`."""
        raise StorageError("cannot write to standard output: it is closed")


def prepare_streams() -> None:
    """Make the standard streams safe: none is missing, and any text can be printed."""
    codecs.register_error(_ESCAPE, _escape)
    before = sys.stdout
    _fill_descriptors()
    if sys.stdin is None:
        sys.stdin = ClosedInput()
    if before is None:
        sys.stdout = io.TextIOWrapper(ClosedOutput(), "utf-8", write_through=True)
    elif before is sys.__stdout__ and isinstance(before, io.TextIOWrapper):
        raw = Output(before.fileno(), "wb", closefd=False)
        lines = before.line_buffering or before.write_through
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), before.encoding, _ESCAPE, line_buffering=lines
        )
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (stays open)
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        errors = Errors(sys.stderr.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(errors), sys.stderr.encoding, _ESCAPE, line_buffering=True
        )


def _fill_descriptors() -> None:
    """Open closed standard descriptors on the null device.

    Otherwise the next file to be opened would get the number 0, 1 or 2, and output that libraries
    print would be written into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)


class LogLines(logging.Handler):
    """Prints log records of the package as lines on standard error.

    It looks up `sys.stderr` for each record, because a progress bar may replace it for a while.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; ignore a standard error that cannot be written."""
        with suppress(OSError, ValueError):
            print(f"bit-transformer: {record.getMessage()}", file=sys.stderr, flush=True)


def show_log() -> None:
    """Show warnings and the reasons of long waits while a command runs."""
    log = logging.getLogger("bit_transformer")
    if not any(isinstance(handler, LogLines) for handler in log.handlers):
        log.addHandler(LogLines())
    log.setLevel(logging.INFO)


_ESCAPE = "bit_transformer.escape"
"""Name of the error handler for characters that the locale cannot encode, so that no message fails
because of what it quotes. Undecodable bytes of a file name print as \\xe9, letters as \\u0142."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    import re

    text, end = codecs.backslashreplace_errors(error)
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", str(text)), end


def discard(stream: TextIO) -> None:
    """Send what is still buffered to the null device, so that it cannot fail again at exit."""
    with suppress(OSError, ValueError, BitTransformerError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


_ENDING = (signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(_ENDING, signal.SIG_DFL)
"""The signal handlers of a process that has not set its own. If another handler is installed, the
caller set it, and we do not replace it."""


@contextmanager
def signals_raise() -> Iterator[list[int]]:
    """Context in which signals raise exceptions in the main thread; yields the signals raised.

    SIGINT raises `KeyboardInterrupt` each time. The first SIGTERM or SIGHUP raises `Interrupted`;
    later ones are ignored, so that they cannot break off the cleanup. A signal that the caller
    ignores, as `nohup` does, stays ignored.
    """
    ending: list[int] = []
    raised: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if _torch_is_loading(frame):
            _send_later(number)
        elif number == signal.SIGINT:
            raised.append(number)
            raise KeyboardInterrupt
        elif not ending:
            ending.append(number)
            raised.append(number)
            raise Interrupted(number)

    def send_again(unraisable: "sys.UnraisableHookArgs") -> None:
        """Send an interrupt again that was lost in a finalizer, which cannot raise."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        ending.clear()
        _send_later(error.signal_number if isinstance(error, Interrupted) else signal.SIGINT)

    hook = sys.unraisablehook
    numbers = [number for number, before in _DEFAULTS.items() if signal.getsignal(number) is before]
    try:
        for number in numbers:
            signal.signal(number, handle)
    except ValueError:
        # Only the main thread may set handlers.
        numbers = []
    sys.unraisablehook = send_again
    try:
        yield raised
    finally:
        sys.unraisablehook = hook
        for number in numbers:
            signal.signal(number, _DEFAULTS[number])


def _torch_is_loading(frame: FrameType | None) -> bool:
    """Whether torch is being imported: its C++ code aborts the process on an exception."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch" and frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False


def _send_later(number: int) -> None:
    """Send a signal to the main thread again after 20 ms."""

    def send() -> None:
        time.sleep(0.02)
        _thread.interrupt_main(signal.Signals(number))

    _thread.start_new_thread(send, ())


def restore_default_signals() -> None:
    """Let a signal end the process at once: there is nothing left to clean up."""
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
