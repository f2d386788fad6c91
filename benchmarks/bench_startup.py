"""Measure the start of whole processes, beside bare Python and `import torch`.

    python benchmarks/bench_startup.py [--rounds 5]

Each row is the median over rounds in which all rows take turns. The caches of the system and of
compiled code are warm. The last row is a single run with an empty cache of compiled code, as in the
first compression on a machine.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import write_result

CLI = (sys.executable, "-m", "bit_transformer")
ROWS: dict[str, tuple[str, ...]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import torch": (sys.executable, "-c", "import torch"),
    "import bit_transformer": (sys.executable, "-c", "import bit_transformer"),
    "--help": (*CLI, "--help"),
    "--version": (*CLI, "--version"),
    "a mistyped command": (*CLI, "trian"),
    "completion bash": (*CLI, "completion", "bash"),
    "train --help": (*CLI, "train", "--help"),
    "a mistyped flag": (*CLI, "train", "--stpes", "3"),
    "compress 1 KB": (*CLI, "compress", "kilobyte", "--out", "coded", "--force"),
    "decompress": (*CLI, "decompress", "coded", "--out", "back", "--force"),
    "decompress --list": (*CLI, "decompress", "coded", "--list"),
}
COLD = "compress 1 KB, nothing compiled yet"


def seconds(words: tuple[str, ...], folder: Path, **environment: str) -> float:
    """Time of a process from its start to its end."""
    began = time.perf_counter()
    ended = subprocess.run(
        words, cwd=folder, capture_output=True, check=False, env={**_environment(), **environment}
    )
    took = time.perf_counter() - began
    if ended.returncode not in (0, 2):
        raise SystemExit(f"{shlex.join(words)} failed: {ended.stderr.decode(errors='replace')}")
    return took


def _environment() -> dict[str, str]:
    """The environment of a user, in which Python and numba keep compiled code on disk."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # The processes start in another folder, where this package would not be found.
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _cold_seconds(folder: Path) -> float:
    """Time of the first compression, with a copy of the package that has no compiled code."""
    copy = folder / "copy"
    package = Path(__file__).resolve().parent.parent / "bit_transformer"
    shutil.copytree(package, copy / "bit_transformer", ignore=shutil.ignore_patterns("__pycache__"))
    empty = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(copy)}
    return seconds(ROWS["compress 1 KB"], folder, **empty)


def main() -> None:
    """Measure all rows in turns, then the cold one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kilobyte").write_bytes(
            (b"To be, or not to be: that is the question.\n" * 24)[:1024]
        )
        for words in ROWS.values():
            seconds(words, folder)
        taken = {row: list[float]() for row in ROWS}
        for _ in range(rounds):
            for row, words in ROWS.items():
                taken[row].append(seconds(words, folder))
        cold = _cold_seconds(folder)
    rows = [(row, f"{statistics.median(times):.2f}") for row, times in taken.items()]
    write_result(
        "startup",
        summary="Seconds of whole processes: the median with warm caches, and one cold run last.",
        columns=("process", "seconds"),
        rows=[*rows, (COLD, f"{cold:.2f}")],
        details={"rounds": rounds, "seconds": {**taken, COLD: [cold]}},
    )


if __name__ == "__main__":
    main()
