"""Compare context mixing with general compressors on the same files: size, speed, memory.

    python benchmarks/bench_codec.py --data alice29.txt bible.txt kennedy.xls tinyshakespeare.txt

Every figure comes from a process of its own with one thread, after compiled code was loaded, and
without our verification pass. Speeds are by processor time of the fastest of three runs each way;
the first run also waits for memory. zpaq, lpaq1 and paq8px take part where they are installed (zpaq
is a Debian package). The files of all methods include their headers and checksums. Memory is the
peak above the memory of the process before.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from memory import peak_above_now
from report import write_result
from rivals import COMPRESSORS, Coder

OURS = "ours, mixing"
_RUNS = 3
_WARM_UP = b"loads compiled code, and checks it " * 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, arguments.data[0].read_bytes())))
        return
    rows, details = [], []
    for path in arguments.data:
        for name in COMPRESSORS:
            found = _in_a_process(name, path)
            details.append(found)
            rows.append([path.name, name, *list(found.values())[3:]])
            print(rows[-1], flush=True)
    write_result(
        "codec",
        summary=_summary(details),
        columns=["file", "compressor", "bits/byte", "KB/s in", "KB/s out", "MiB in", "MiB out"],
        rows=rows,
        details={"runs": details},
    )


def measure(name: str, data: bytes) -> dict[str, Any]:
    """Pack and unpack the data. The shortest time and the highest memory of each count."""
    compressor = COMPRESSORS[name]
    compressor.unpack(compressor.pack(_WARM_UP))
    packed, packing = _measured(compressor.pack, data)
    restored, unpacking = _measured(compressor.unpack, packed)
    if restored != data:
        raise RuntimeError(f"{name} does not restore its input")
    return {
        "compressor": name,
        "bytes": len(data),
        "bits_per_byte": 8 * len(packed) / len(data),
        "pack_kb_per_second": len(data) / packing[0] / 1000,
        "unpack_kb_per_second": len(data) / unpacking[0] / 1000,
        "pack_mib": None if compressor.program else packing[1],
        "unpack_mib": None if compressor.program else unpacking[1],
    }


def _measured(coder: Coder, data: bytes) -> tuple[bytes, tuple[float, float]]:
    """The output, and the shortest time and the highest memory of several runs."""
    outs, seconds, peaks = zip(*[_once(coder, data) for _ in range(_RUNS)], strict=True)
    return outs[0], (min(seconds), max(peaks))


def _once(coder: Coder, data: bytes) -> tuple[bytes, float, float]:
    """The output, the processor time in seconds with child processes, and the growth of memory to
    its peak in MiB."""
    out: list[bytes] = []
    before = sum(os.times()[:4])
    peak = peak_above_now(lambda: out.append(coder(data)))
    return out[0], max(sum(os.times()[:4]) - before, 0.01), peak


def _in_a_process(name: str, path: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", name, "--data", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"file": path.name, **found}


def _summary(details: list[dict[str, Any]]) -> str:
    parts = []
    for file in dict.fromkeys(run["file"] for run in details):
        own = {run["compressor"]: run for run in details if run["file"] == file}
        ours, at_best = own.pop(OURS), own.pop(f"{OURS} --best")
        best = min(own.values(), key=lambda run: float(run["bits_per_byte"]))
        parts.append(
            f"{file}: {ours['bits_per_byte']:.3f} at {ours['pack_kb_per_second']:.0f} KB/s, "
            f"{at_best['bits_per_byte']:.3f} with --best, best of the others "
            f"{best['compressor']} {best['bits_per_byte']:.3f}"
        )
    return "Bits per byte by context mixing alone. " + "; ".join(parts) + "."


if __name__ == "__main__":
    main()
