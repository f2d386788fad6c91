"""Check that a compressed file decodes with other threads, instruction sets and versions.

    python benchmarks/bench_codec_survival.py [--python PATH_TO_ANOTHER_ENVIRONMENT ...]

A file is written with a model and decoded in processes that compute differently: with other numbers
of threads, with code compiled for other processors (NUMBA_CPU_NAME and an empty cache), and by the
given Pythons, which may have other versions of PyTorch, numba and NumPy. The control is the forward
pass of the network in PyTorch: the last column says whether its float32 logits are the same bits.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from report import write_result

from bit_transformer import BitTransformerLM, encode

_DECODE = """
import hashlib, sys
from pathlib import Path
import numba, numpy, torch
from bit_transformer import BitTransformerLM, bytes_to_bits, decode
folder = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
model = BitTransformerLM.from_pretrained(folder / "model")
data = decode(model, (folder / "packed").read_bytes())
bits = torch.from_numpy(bytes_to_bits(data[:256]))[None].repeat(32, 1)
with torch.no_grad():
    logits = model(bits)[0].numpy()
print(torch.__version__, numba.__version__, numpy.__version__)
print(hashlib.sha256(data).hexdigest(), hashlib.sha256(logits.tobytes()).hexdigest())
"""
_PROCESSORS = ("x86-64", "x86-64-v2", "haswell", "skylake-avx512", "znver1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", nargs="*", default=[], help="interpreters of other environments"
    )
    arguments = parser.parse_args()
    text = Path(__file__).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = BitTransformerLM(
            d_model=64, nhead=2, num_layers=2, dim_feedforward=256, max_seq_len=2048
        ).eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        model.save_pretrained(folder / "model")
        (folder / "packed").write_bytes(encode(model, text))
        rows, control = [], ""
        for title, python, threads, environment in _cases(arguments.python):
            versions, decoded, logits = _decode(python, folder, threads, environment)
            control = control or logits
            same = decoded == hashlib.sha256(text).hexdigest()
            rows.append([title, versions, _yes(same), _yes(logits == control)])
            print(rows[-1], flush=True)
    kept = sum(row[2] == "yes" for row in rows)
    write_result(
        "codec-survival",
        summary=f"A file written with a model decodes to its bytes in {kept} of {len(rows)} "
        "environments that compute differently.",
        columns=["environment", "torch, numba, NumPy", "decodes", "PyTorch's logits are the same"],
        rows=rows,
        details={"bytes": len(text)},
    )


def _cases(pythons: list[str]) -> list[tuple[str, str, int, dict[str, str]]]:
    here = sys.executable
    cases: list[tuple[str, str, int, dict[str, str]]] = [("as it was written", here, 1, {})]
    cases += [(f"{threads} threads", here, threads, {}) for threads in (2, 3, 7)]
    for processor in _PROCESSORS:
        compiled = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
        cases.append((f"compiled for {processor}", here, 1, compiled))
    cases.append(("PyTorch held to AVX2", here, 1, {"ATEN_CPU_CAPABILITY": "avx2"}))
    cases += [(f"another environment, {number + 1}", p, 1, {}) for number, p in enumerate(pythons)]
    return cases


def _decode(
    python: str, folder: Path, threads: int, environment: dict[str, str]
) -> tuple[str, str, str]:
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [python, "-c", _DECODE, str(folder), str(threads)],
            env=os.environ | environment | {"NUMBA_CACHE_DIR": cache},
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last: list[Any] = done.stderr.strip().splitlines()[-1:]
        return "", f"failed: {last}", ""
    versions, digests = done.stdout.strip().splitlines()[-2:]
    decoded, logits = digests.split()
    return versions, decoded, logits


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


if __name__ == "__main__":
    main()
