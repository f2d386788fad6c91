"""What a command line owes the process it runs in: streams that exist, signals that clean up."""

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
    """Standard input that the caller has closed: reading it is an error, not the end of a file."""

    @property
    def buffer(self) -> NoReturn:
        """Where bytes would come from."""
        raise SourceError("standard input is closed; name a file, or give it something to read")

    def read(self, size: int | None = -1, /) -> str:
        """Refuses."""
        return str(self.buffer.read())


class Output(io.FileIO):
    """Standard output; what cannot be written is told as ours, wherever it was printed."""

    def write(self, data: Any, /) -> int:
        """The number of bytes written; `BrokenPipeError` where nobody reads them any more, and
        `StorageError` for anything else."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise StorageError(f"cannot write to standard output: {why}") from error


class Errors(io.FileIO):
    """Standard error; where nobody can be told, the work goes on, and the exit code tells."""

    def write(self, data: Any, /) -> int:
        """The number of bytes written, or that are given up."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


class ClosedOutput(io.RawIOBase):
    """Standard output that the caller has closed: what is written is not lost in silence."""

    def writable(self) -> bool:
        """Until it is tried."""
        return True

    def write(self, data: Any, /) -> int:
        """Refuses."""
        raise StorageError("cannot write to standard output: it is closed")


def prepare_streams() -> None:
    """Make the standard streams safe to use: none is missing, and all text can be printed."""
    codecs.register_error(_SHOWN, _shown)
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
            io.BufferedWriter(raw), before.encoding, _SHOWN, line_buffering=lines
        )
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        told = Errors(sys.stderr.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(told), sys.stderr.encoding, _SHOWN, line_buffering=True
        )


def _fill_descriptors() -> None:
    """A closed descriptor is opened on the null device: the next file that is opened would take its
    number otherwise, and get what libraries print."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)


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


_SHOWN = "bit_transformer.shown"
"""How text is printed that the locale has no letters for, or that is no text, as file names may be:
a byte as \\xe9, a letter as \\u0142. No message fails because of what it quotes."""


def _shown(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    import re

    text, end = codecs.backslashreplace_errors(error)
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", str(text)), end


def drop(stream: TextIO) -> None:
    """Nothing that is still unwritten may fail once more when the process ends."""
    with suppress(OSError, ValueError, BitTransformerError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


_ENDING = (signal.SIGTERM, signal.SIGHUP)
_BEFORE = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(_ENDING, signal.SIG_DFL)
"""What happens to signals where nobody has seen to them yet."""


@contextmanager
def signals_raise() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP raise `Interrupted` in the main thread, once; further ones are ignored, so
    that what the first one has begun to clean up is cleaned up. SIGINT raises each time.

    A signal that the caller has ignored, as `nohup` does, stays ignored. The value is a list of the
    signals that were raised.
    """
    told: list[int] = []
    raised: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        if _torch_is_loading(frame):
            _tell_later(number)
        elif number == signal.SIGINT:
            raised.append(number)
            raise KeyboardInterrupt
        elif not told:
            told.append(number)
            raised.append(number)
            raise Interrupted(number)

    def tell_again(unraisable: "sys.UnraisableHookArgs") -> None:
        """An interrupt that hit a finalizer, which cannot raise it, comes once more."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        told.clear()
        _tell_later(error.signal_number if isinstance(error, Interrupted) else signal.SIGINT)

    hook = sys.unraisablehook
    numbers = [number for number, before in _BEFORE.items() if signal.getsignal(number) is before]
    try:
        for number in numbers:
            signal.signal(number, tell)
    except ValueError:
        # Only the main thread is told of signals.
        numbers = []
    sys.unraisablehook = tell_again
    try:
        yield raised
    finally:
        sys.unraisablehook = hook
        for number in numbers:
            signal.signal(number, _BEFORE[number])


def _torch_is_loading(frame: FrameType | None) -> bool:
    """Whether an interrupt would come out of torch's own start in C++, which ends the process with
    a page about itself when it meets one."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch" and frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False


def _tell_later(number: int) -> None:
    """Have a signal told in a moment, from wherever the main thread is then."""

    def tell() -> None:
        time.sleep(0.02)
        _thread.interrupt_main(signal.Signals(number))

    _thread.start_new_thread(tell, ())


def leave_to_the_system() -> None:
    """From here on a signal ends the process at once; there is nothing left to clean up."""
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
