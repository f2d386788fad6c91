"""Write docs/cli.md: a table of the commands by purpose, then the help page of each command.

    python scripts/make_cli_docs.py

Run it after every change of a command; a test fails if the page is out of date.
"""

import io
import os
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import get_args
from unittest import mock

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.main import main
from bit_transformer.model.config import PresetName, preset

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
COLUMNS = 100

PURPOSES = {
    "Train": ("train", "memory", "runs"),
    "Use a model": ("generate", "score", "eval", "warm", "quantize"),
    "Compress": ("compress", "decompress"),
    "Watch and guard": ("telemetry", "gate", "review"),
    "Share": ("push", "pull"),
    "Serve": ("serve", "dashboard", "call", "watch"),
    "Shell": ("completion",),
}
# These commands take the flags of another one, so their short page is enough.
SHORT_PAGES = ("memory",)

INTRODUCTION = """\
# Commands

`python scripts/make_cli_docs.py` generates this page from the commands themselves. In a terminal,
`bit-transformer COMMAND --help` shows the common options and `--help-all` shows every option.
[The tour](tour.md) shows the commands at work.
"""
CONVENTIONS = """\
## For all commands

- `RUN` is a run folder, a checkpoint folder, an exported model or the name of a model on a hub
  ([hub.md](hub.md)).
- `-` is standard input. A file with the name `-` is `./-`.
- `--json` prints the result for scripts. `--debug` prints the traceback of an error.
- Settings come from the defaults, then `--preset`, then `--config run.toml`, then the flags.
- The exit code is 0 on success, 2 on a usage error and 1 on a failure. It is 130, 143 or 129 after
  SIGINT, SIGTERM or SIGHUP, and 141 if nobody reads the output.
"""


def written() -> str:
    """Return the whole page as it belongs in its file."""
    commands = [command for group in PURPOSES.values() for command in group]
    if sorted(commands) != sorted(COMMANDS):
        raise ValueError(f"PURPOSES must name each command once, got {commands}; edit {__file__}")
    sections = (_section(command) for command in commands)
    return "\n".join([INTRODUCTION, _overview(), CONVENTIONS, _presets(), *sections])


def _overview() -> str:
    rows = [
        ("" if at else purpose, f"[`{command}`](#{command})", COMMANDS[command])
        for purpose, group in PURPOSES.items()
        for at, command in enumerate(group)
    ]
    return _table(("purpose", "command", "what it does"), rows)


def _presets() -> str:
    rows = []
    for name in get_args(PresetName):
        config = preset(name)
        sizes = (config.num_layers, config.d_model, config.nhead)
        context = f"{config.max_seq_len // 8:,} bytes"
        rows.append((f"`--preset {name}`", *map(str, sizes), context))
    return "## Presets\n\n" + _table(("preset", "layers", "width", "heads", "context"), rows)


def _section(command: str) -> str:
    page = _printed(command, "--help" if command in SHORT_PAGES else "--help-all")
    return f"## {command}\n\n```text\n{page.rstrip()}\n```\n"


def _printed(*words: str) -> str:
    output = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": str(COLUMNS)}), redirect_stdout(output):
        code = main(words)
    if code:
        raise RuntimeError(f"{' '.join(words)} must end with 0, got {code}")
    return output.getvalue()


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
