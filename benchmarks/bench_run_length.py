"""Measure whether training on run-length coded batches helps, at equal steps.

    python benchmarks/bench_run_length.py --data tinyshakespeare.txt kennedy.xls

Held-out bits per byte over three seeds. The held-out tenth is read as it is, in windows of 256
bytes that overlap by half. A direct batch is the run-length code of the data and replaces an
ordinary batch. Batches that are coded and decoded again give the same run to the last bit, which a
test checks, so only the share of direct batches varies here.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
from training import hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.inference.score import score_bytes
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import Causal
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.objectives.run_length import RunLength

WINDOW = 256
MODEL = ModelConfig(
    d_model=96,
    nhead=2,
    num_layers=3,
    dim_feedforward=384,
    max_seq_len=8 * WINDOW,
    memory_bits=(16, 24, 32),
    memory_dropout=0.3,
)
SHARES = (0.0, 0.1, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[list[Any]] = []
    for path in arguments.data:
        found = {
            share: [_run(path, share, arguments.steps, seed) for seed in range(arguments.seeds)]
            for share in SHARES
        }
        plain = float(np.mean(found[0.0]))
        for share, values in found.items():
            mean = float(np.mean(values))
            rows.append([path.name, share, mean, mean / plain, *values])
            print(rows[-1], flush=True)
    seeds = [f"seed {seed}" for seed in range(arguments.seeds)]
    write_result(
        "run-length",
        summary="Held-out bits per byte where a share of the batches is the run-length code of the "
        "data instead of the data. The ratio is relative to training without such batches.",
        columns=["file", "direct share", "bits/byte", "ratio", *seeds],
        rows=rows,
        details={"steps": arguments.steps, "model": MODEL.to_dict()},
    )


def _run(path: Path, share: float, steps: int, seed: int) -> float:
    dataset = hold_out_tenth(path, WINDOW, "spread")
    torch.manual_seed(seed)
    network = BitTransformer(MODEL)
    objective = RunLength(Causal(), ObjectiveConfig(direct_prob=share, ramp=0.0))
    config = TrainConfig(steps=steps, batch_size=8, seed=seed)
    train(network, dataset, config, OptimizerConfig(), objective=objective, name=f"{share} {seed}")
    pieces = dataset.held_out_bytes()
    scores = [score_bytes(network, piece, window_bytes=WINDOW).surprisal for piece in pieces]
    return float(np.concatenate(scores).mean(dtype=np.float64))


if __name__ == "__main__":
    main()
