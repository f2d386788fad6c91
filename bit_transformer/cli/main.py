"""Finds the command, turns errors into one line and an exit code."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from bit_transformer.errors import BitTransformerError

COMMANDS = {
    "train": "train a model on any bytes, compare it with general compressors, sample",
    "generate": "continue a prompt",
    "score": "bits per byte of a file; --html paints it by surprisal",
    "eval": "a model beside gzip, bzip2, xz, zstd and brotli on the same bytes",
    "compress": "any file without loss, by context mixing, or with RUN by a model as well",
    "decompress": "give a compressed file back, or what can be saved of a damaged one",
    "runs": "list the runs in a folder",
    "telemetry": "K, C, S of a run's training as a picture, or along a file",
    "gate": "how many held-out windows of a run, or of files, its safety gate lets pass",
    "memory": "what a run with these settings will need in memory, before it starts",
    "quantize": "a model with weights of 8 or 4 bits",
    "push": "upload a run or a checkpoint, with a model card, to a hub",
    "pull": "download a run or a checkpoint from a hub",
    "review": "list, show, approve or reject what the safety gate held back",
    "serve": "the management server: REST and MCP on 127.0.0.1:7000",
    "dashboard": "the server in a browser: 127.0.0.1:5000",
    "call": "any operation of a running server",
    "watch": "run tests on every change, restart the server if they pass",
}

_INTERRUPTED = 130


def usage() -> str:
    """What `bit-transformer --help` prints."""
    lines = [f"  {name:<12}{phrase}" for name, phrase in COMMANDS.items()]
    return "\n".join(
        [
            "usage: bit-transformer COMMAND [OPTIONS]",
            "",
            "A language model over bits: any bytes are training data.",
            "",
            *lines,
            "",
            "bit-transformer COMMAND --help lists the options of a command.",
            "Exit code: 0 on success, 2 on a usage error, 1 on a failure (--debug shows where).",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the value is the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    command = words[0]
    if command not in COMMANDS:
        return _fail(f"no command {command!r}; there are {', '.join(COMMANDS)}", 2)
    try:
        module = importlib.import_module(f"bit_transformer.cli.{command}")
        module.run(words[1:])
    except BitTransformerError as error:
        return _explain(error, str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        what = f"internal error, {type(error).__name__}: {error}; --debug shows where"
        return _explain(error, what, 1, debug=debug)
    return 0


def _explain(error: BaseException, message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    return _fail(message, code)


def _fail(message: str, code: int) -> int:
    print(f"bit-transformer: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
