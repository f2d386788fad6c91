"""Finds the command; turns every error into one line and an exit code.

Importing this module loads almost nothing, so that --help and a mistyped command are instant.
"""

import errno
import os
import signal
import sys
from collections.abc import Sequence

from bit_transformer.cli.commands import COMMANDS, module_of
from bit_transformer.cli.process import (
    discard,
    prepare_streams,
    restore_default_signals,
    show_log,
    signals_raise,
)
from bit_transformer.device import prepare_threads
from bit_transformer.errors import BitTransformerError, Interrupted, StorageError
from bit_transformer.version import __version__

_SYSTEM_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO),
}
"""A full disk, missing rights, limits: the machine is at fault, not this program."""


def usage() -> str:
    """Return the page of `bit-transformer --help`."""
    import shutil
    import textwrap

    width = max(30, min(100, shutil.get_terminal_size().columns))
    lines = []
    for name, phrase in COMMANDS.items():
        lines += textwrap.wrap(
            phrase, width, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14
        )
    closing = (
        "bit-transformer COMMAND --help shows the options of a command, --version the version.",
        "Exit codes: 0 success, 1 failure (--debug shows the traceback), 2 usage error, 130, 143 "
        "or 129 stopped by SIGINT, SIGTERM or SIGHUP, 141 the reader of the output is gone.",
    )
    return "\n".join(
        [
            "usage: bit-transformer COMMAND [OPTIONS]",
            "",
            *textwrap.wrap("A language model over bits: any bytes are training data.", width),
            "",
            *lines,
            "",
            *(line for text in closing for line in textwrap.wrap(text, width)),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Without `arguments` this is the whole process: the words come from the command line, and
    standard streams, threads and signals are set up first.
    """
    try:
        if arguments is None:
            prepare_streams()
            prepare_threads(os.environ)
        with signals_raise() as raised:
            code = _guarded(list(sys.argv[1:] if arguments is None else arguments), raised)
    except KeyboardInterrupt as interrupt:
        code = _interrupted(interrupt)
    if arguments is None:
        restore_default_signals()
        code = _flushed(code)
    return code


def _flushed(code: int) -> int:
    """Flush standard output; return `code`, or the code of the error that this raises."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    except StorageError as error:
        discard(sys.stdout)
        return code if code else _fail(str(error), error.exit_code)
    return code


def _guarded(words: list[str], raised: Sequence[int]) -> int:
    """Run a command and return its exit code, whatever it raises.

    `raised` lists the signals that have been raised as exceptions so far.
    """
    try:
        return _run(words)
    except BitTransformerError as error:
        return _explain(error, str(error), error.exit_code, words)
    except SystemExit as end:
        return _fail(end.code, 1) if isinstance(end.code, str) else int(end.code or 0)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        return _reader_gone()
    except MemoryError as error:
        message = "memory is exhausted; use a smaller batch, model or block"
        return _explain(error, message, 1, words)
    except OSError as error:
        return _os_error(error, words)
    except Exception as error:
        if raised:
            # Some libraries turn an interrupt into another error while they are imported.
            return _interrupted(Interrupted(raised[0]))
        return _internal(error, words)


def _os_error(error: OSError, words: Sequence[str]) -> int:
    if error.filename is not None:
        message = f"cannot use {error.filename}: {error.strerror}"
    elif error.errno in _SYSTEM_ERRORS:
        message = f"the operating system reports: {error.strerror}"
    else:
        return _internal(error, words)
    return _explain(error, message, 1, words)


def _run(words: list[str]) -> int:
    if words and words[0] == "--debug":
        words = words[1:]
    if not words:
        return _fail(f"a command is needed\n\n{usage()}", 2)
    if words[0] in ("-h", "--help", "--help-all"):
        print(usage())
        return 0
    command = words[0]
    if command in ("-V", "--version"):
        print(f"bit-transformer {__version__}")
        return 0
    if command not in COMMANDS:
        return _fail(_unknown_command(command), 2)
    show_log()
    module_of(command).run(words[1:])
    return 0


def _unknown_command(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    remedy = f"did you mean {near[0]}?" if near else "bit-transformer --help lists all"
    return f"there is no command {word!r}; {remedy}"


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    # CPython marks an interrupt that leaves exec(), which dataclasses use, as unhandled and would
    # end the process by SIGINT. Another exec() clears the mark.
    exec("")
    if isinstance(interrupt, Interrupted) and interrupt.signal_number != signal.SIGINT:
        name = signal.Signals(interrupt.signal_number).name
        return _fail(f"stopped by {name}", interrupt.exit_code)
    return _fail("interrupted", 128 + signal.SIGINT)


def _reader_gone() -> int:
    """Return the exit code for a closed pipe: the reader has read enough, as in `... | head`."""
    discard(sys.stdout)
    return 128 + signal.SIGPIPE


def _internal(error: BaseException, words: Sequence[str]) -> int:
    name = type(error).__name__
    message = f"internal error, {name}: {error}; --debug shows the traceback"
    return _explain(error, message, 1, words)


def _explain(error: BaseException, message: str, code: int, words: Sequence[str]) -> int:
    if _is_debugging(words):
        import traceback

        traceback.print_exception(error)
    return _fail(message, code)


def _is_debugging(words: Sequence[str]) -> bool:
    """Whether --debug is used as a flag: not as the value of another flag, not after --."""
    if "--debug" not in words:
        return False
    from bit_transformer.cli.completion import text_flags

    end = words.index("--") if "--" in words else len(words)
    with_text = text_flags(words[0])
    return any(
        word == "--debug" and (at == 0 or words[at - 1] not in with_text)
        for at, word in enumerate(words[:end])
    )


def _fail(message: str, code: int) -> int:
    try:
        print(f"bit-transformer: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Standard error cannot be written. The exit code remains.
        discard(sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
