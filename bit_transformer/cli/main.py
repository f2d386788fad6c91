"""Finds the command, turns errors into one line and an exit code.

Importing this loads next to nothing, so that help and a mistyped command take no time.
"""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.process import (
    drop,
    leave_to_the_system,
    prepare_streams,
    show_log,
    signals_raise,
)
from bit_transformer.device import prepare_threads
from bit_transformer.errors import BitTransformerError, Interrupted, StorageError
from bit_transformer.version import __version__

_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO),
}
"""A full disk, rights, limits: what a machine lacks is no fault of ours."""


def usage() -> str:
    """What `bit-transformer --help` prints."""
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
        "Exit code: 0 on success, 2 on a usage error, 1 on a failure (--debug shows where), 130, "
        "143 or 129 when stopped by SIGINT, SIGTERM or SIGHUP, 141 when nobody reads the output.",
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
    """Run one command; the value is the exit code.

    Without arguments it is the whole process: it takes those of the command line, and sees to the
    standard streams and to what happens to signals after it.
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
        leave_to_the_system()
        code = _flushed(code)
    return code


def _flushed(code: int) -> int:
    """The exit code, or another where what was printed could not be written to the end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    except StorageError as error:
        drop(sys.stdout)
        return code if code else _fail(str(error), error.exit_code)
    return code


def _guarded(words: list[str], raised: Sequence[int]) -> int:
    """The exit code of a command, whatever happens in it; `raised` has the signals that were."""
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
        what = "there is not enough memory for this; a smaller batch, model or block needs less"
        return _explain(error, what, 1, words)
    except OSError as error:
        return _refused(error, words)
    except Exception as error:
        if raised:
            # Python and libraries, while they import, make other errors of an interrupt.
            return _interrupted(Interrupted(raised[0]))
        return _internal(error, words)


def _refused(error: OSError, words: Sequence[str]) -> int:
    if error.filename is not None:
        what = f"cannot use {error.filename}: {error.strerror}"
    elif error.errno in _REFUSALS:
        what = f"the system refuses what is needed: {error.strerror}"
    else:
        return _internal(error, words)
    return _explain(error, what, 1, words)


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
        return _fail(_no_command(command), 2)
    show_log()
    module = importlib.import_module(f"bit_transformer.cli.{command}")
    module.run(words[1:])
    return 0


def _no_command(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    remedy = f"did you mean {near[0]}?" if near else "bit-transformer --help lists all"
    return f"there is no command {word!r}; {remedy}"


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    # An interrupt that came while text was run, as dataclasses do, is still kept as unhandled and
    # would end the process by its signal; running any text clears that.
    exec("")
    if isinstance(interrupt, Interrupted) and interrupt.signal_number != signal.SIGINT:
        name = signal.Signals(interrupt.signal_number).name
        return _fail(f"stopped by {name}", interrupt.exit_code)
    return _fail("interrupted", 128 + signal.SIGINT)


def _reader_gone() -> int:
    """The reader has what it wanted, as in `... | head`."""
    drop(sys.stdout)
    return 128 + signal.SIGPIPE


def _internal(error: BaseException, words: Sequence[str]) -> int:
    what = f"internal error, {type(error).__name__}: {error}; --debug shows where"
    return _explain(error, what, 1, words)


def _explain(error: BaseException, message: str, code: int, words: Sequence[str]) -> int:
    if _debug_asked(words):
        import traceback

        traceback.print_exception(error)
    return _fail(message, code)


def _debug_asked(words: Sequence[str]) -> bool:
    """Whether --debug is a flag here, neither the value of another nor behind --."""
    if "--debug" not in words:
        return False
    from bit_transformer.cli.completion import text_flags

    end = words.index("--") if "--" in words else len(words)
    taking = text_flags(words[0])
    return any(
        word == "--debug" and (at == 0 or words[at - 1] not in taking)
        for at, word in enumerate(words[:end])
    )


def _fail(message: str, code: int) -> int:
    try:
        print(f"bit-transformer: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Where nobody can be told, the exit code tells.
        drop(sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
