"""Measure the peak memory of a function, best in a process of its own."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_MIB = 1 << 20


def in_a_child(script: str, arguments: Sequence[str]) -> float:
    """Run a script in a fresh process and return the number that it prints last.

    The allocator of that process returns freed memory at once, so the resident set is the memory in
    use.
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
    """MiB by which the resident set exceeds its present size at most while `function` runs."""
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")
    function()
    return _status("VmHWM") - before


def resident() -> float:
    """Resident set of this process in MiB."""
    return _status("VmRSS")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / _MIB
    raise RuntimeError(f"/proc/self/status does not have {name}; run this benchmark on Linux")
