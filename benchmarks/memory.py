"""Peak memory of a function in a process of its own."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_MIB = 1 << 20


def in_a_child(script: str, arguments: Sequence[str]) -> float:
    """The number that a script prints as its last word, run in a fresh process.

    There the allocator gives back what is freed, so that the resident set is what is in use.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(script).name} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def peak_above_now(function: Callable[[], object]) -> float:
    """MiB by which the resident set peaks above its present size while `function` runs."""
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")
    function()
    return _status("VmHWM") - before


def resident() -> float:
    """MiB resident now."""
    return _status("VmRSS")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / _MIB
    raise RuntimeError(f"this system does not tell {name}")
