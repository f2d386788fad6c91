"""Train five short runs at another commit and here, and compare their losses to the last digit.

    .venv/bin/python scripts/compare_losses.py COMMIT [DATA]

A change of structure must not change a number. Each run takes a path of its own through the
network: plain, reversible, adaptive computation, training in 4 bits, chunked attention. DATA is a
file, by default the README. Exits with 1 where a loss differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_SETTINGS = {
    **{"d-model": 64, "num-layers": 3, "nhead": 4, "dim-feedforward": 128, "max-seq-len": 512},
    **{"steps": 12, "batch-size": 4, "evaluate-every": 6, "evaluate-bytes": 2048, "dropout": 0.1},
}
_RUNS = {
    "plain": [],
    "reversible": ["--reversible"],
    "act": ["--use-act"],
    "qat": ["--qat"],
    "chunked": ["--chunk-size", "128", "--overlap", "64"],
}


def losses(source: Path, data: Path, options: list[str]) -> list[tuple[str, int, str]]:
    """(kind, step, value) of each step and evaluation of a run trained by the code in `source`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["train", str(data), "--out", str(out), "--device", "cpu"]
        words += [word for name, value in _SETTINGS.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [sys.executable, "-m", "bit_transformer", *words, *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(source)},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    value = {"step": "loss", "evaluation": "bits_per_byte"}
    return [
        (one["kind"], one["step"], repr(one[value[one["kind"]]]))
        for one in records
        if one["kind"] in value
    ]


def main() -> int:
    """Compare all runs, and say which of them differ and where first."""
    commit, data = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else _ROOT / "README.md")
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        archive = subprocess.run(
            ["git", "archive", commit], cwd=_ROOT, check=True, capture_output=True
        ).stdout
        other.mkdir()
        subprocess.run(["tar", "-x", "-C", str(other)], input=archive, check=True)
        sample = Path(folder) / "data"
        sample.write_bytes(data.read_bytes())
        for name, options in _RUNS.items():
            before, here = (losses(source, sample, options) for source in (other, _ROOT))
            same = before == here
            differ += not same
            last = here[-1]
            print(f"{name:11} {'same' if same else 'DIFFERS'}  {len(here)} values, last {last[2]}")
            if not same:
                pairs = zip(before, here, strict=False)
                first = next((pair for pair in pairs if pair[0] != pair[1]), "their lengths")
                print(f"            first difference: {first}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
