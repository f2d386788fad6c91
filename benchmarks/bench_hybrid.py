"""Compress one file with a trained model, with context mixing, and with both.

    python benchmarks/bench_hybrid.py --data tinyshakespeare.txt
    python benchmarks/bench_hybrid.py --data tinyshakespeare.txt --model FOLDER --skip-other-lanes

The model is trained on the first 90 % with the recipe of bench_tinyshakespeare.py, but twice as
long and with more memory dropout (about 1,000 s on 2 idle cores). --model reads a model that was
trained so. The last 10 % are compressed with the first 90 % as the dictionary. The decoder needs
the weights of the model, so one column counts them too. The published figures of other compressors
(first 90 % as the dictionary) are differences of the sizes of two archives. The column "as a
difference" has ours in that form: without what a file of the first byte alone takes.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_tinyshakespeare import BATCH, MODEL, OPTIMIZER, WINDOW
from report import write_result
from training import hold_out_tenth, train

from bit_transformer import BitTransformerLM, CodecConfig, TrainConfig
from bit_transformer.compression.decoding import decode_bytes
from bit_transformer.compression.encoding import Shared, encode_bytes
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.model.flops import training_flops_per_byte

_PUBLISHED = {"PPMd order 6": 2.029, "paq8px -8": 1.724, "paq8px -8L": 1.706}
TABLE_BITS = 24
RECIPE, BUDGET = replace(MODEL, memory_dropout=0.75), 1e14
"""This is not the best network alone. It adds most to mixing, which knows the last bytes well."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--skip-other-lanes", action="store_true")
    arguments = parser.parse_args()
    data = np.fromfile(arguments.data, dtype=np.uint8)
    cut = int(len(data) * 0.9)
    model = _model(arguments.data, arguments.model)
    last, dictionary = data[cut:].tobytes(), data[:cut].copy()
    network = LaneNetwork(model.network, threads=2)
    alone = model.score(last, overlap_bytes=128).bits_per_byte
    rows: list[list[Any]] = [["network alone, 128+ bytes of context", alone, *[None] * 4]]
    weights = sum(tensor.nbytes for tensor in model.network.state_dict().values())
    rows.append(_row("mixing, dictionary", last, Shared(None, dictionary), 1, 0))
    rows.append(_row("both, dictionary", last, Shared(network, dictionary), 1, weights))
    rows.append(_row("both, no dictionary", last, Shared(network), 1, weights))
    if not arguments.skip_other_lanes:
        for lanes in (2, 4):
            name = f"both, dictionary, {lanes} lanes"
            rows.append(_row(name, last, Shared(network, dictionary), lanes, weights))
    mixing, both, difference = float(rows[1][1]), float(rows[2][1]), float(rows[2][2])
    better = min(mixing, float(rows[0][1]))
    rows += [[f"{name} (published)", None, each, *[None] * 3] for name, each in _PUBLISHED.items()]
    write_result(
        "hybrid",
        summary=f"Last 10 % of {arguments.data.name} with the first 90 % as the dictionary, "
        f"bits per byte: both {both:.3f} as a file, "
        f"{difference:.3f} as a difference; {1 - both / better:.1%} below the better of its parts.",
        columns=[
            "method",
            "bits/byte",
            "as a difference",
            "KB/s in",
            "KB/s out",
            "with float32 weights",
        ],
        rows=rows,
        details={"bytes": len(last), "model": model.config.to_dict(), "table_bits": TABLE_BITS},
    )


def _row(name: str, data: bytes, shared: Shared, lanes: int, weights: int) -> list[Any]:
    """Compress and decompress. Speeds leave out verification and learning the dictionary."""
    config = CodecConfig(lanes=lanes, table_bits=TABLE_BITS, verify=False, best=True)
    packed = encode_bytes(data, shared=shared, config=config)
    started = time.perf_counter()
    one_byte = encode_bytes(data[:1], shared=shared, config=config)
    learning = time.perf_counter() - started
    sizes = [8 * size / len(data) for size in (len(packed), len(packed) - len(one_byte))]
    if shared.network is None:
        # Learning the dictionary takes ten times as long as the rest. bench_codec.py has the speed.
        return [name, *sizes, None, None, sizes[0]]
    started = time.perf_counter()
    packed = encode_bytes(data, shared=shared, config=config)
    between = time.perf_counter()
    if decode_bytes(packed, shared=shared) != data:
        raise RuntimeError(f"{name} does not restore its input")
    speeds = [
        len(data) / max(seconds - learning, 1e-9) / 1000
        for seconds in (between - started, time.perf_counter() - between)
    ]
    row = [name, *sizes, *speeds, 8 * (len(packed) + weights) / len(data)]
    print(row, flush=True)
    return row


def _model(path: Path, folder: Path | None) -> BitTransformerLM:
    if folder is not None:
        return BitTransformerLM.from_pretrained(folder)
    torch.manual_seed(0)
    model = BitTransformerLM.from_config(RECIPE)
    steps = int(BUDGET / (training_flops_per_byte(RECIPE) * BATCH * WINDOW))
    config = TrainConfig(steps=steps, batch_size=BATCH, warmup=0.02, decay=0.98)
    train(model.network, hold_out_tenth(path, WINDOW), config, OPTIMIZER, name="training")
    saved = Path(tempfile.mkdtemp()) / "model"
    model.eval().save_pretrained(saved)
    print(f"saved the model in {saved}", flush=True)
    return model


if __name__ == "__main__":
    main()
