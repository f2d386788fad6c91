"""Train on the first 90 % of tinyshakespeare on a CPU, and score the last 10 % with fixed weights.

    python benchmarks/bench_tinyshakespeare.py --data tinyshakespeare.txt

nanoGPT's published result is 2.120 bits per byte (validation loss 1.4697 nats per character,
windows of 256, about 5.2e15 training FLOPs on a GPU). Its CPU recipe is run here as well. Our model
is scored twice: in cold windows of 256 bytes, and in overlapping windows, where every byte but the
first 128 has at least 128 bytes of context.
"""

import argparse
from pathlib import Path
from typing import Any

import nanogpt
import numpy as np
import torch
from report import write_result
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.inference.score import score_bytes
from bit_transformer.model.flops import training_flops_per_byte
from bit_transformer.model.transformer import BitTransformer

WINDOW = 256
BUDGET = 5e13
MODEL = ModelConfig(
    d_model=128,
    nhead=2,
    num_layers=6,
    dim_feedforward=512,
    max_seq_len=8 * WINDOW,
    memory_bits=(16, 24, 32, 48),
    memory_dropout=0.65,
    logit_cap=15.0,
)
OPTIMIZER = OptimizerConfig(lr=0.015, embedding_lr=0.02, memory_lr=0.05)
BATCH = 8
PUBLISHED = 2.120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flops", type=float, default=BUDGET)
    arguments = parser.parse_args()
    rows: list[list[Any]] = []
    details: dict[str, list[dict[str, Any]]] = {"nanogpt_cpu_recipe": [], "ours": []}
    data = np.fromfile(arguments.data, dtype=np.uint8)
    rival = nanogpt.run(data, int(len(data) * 0.9), seed=0)
    details["nanogpt_cpu_recipe"].append(vars(rival))
    print(rival, flush=True)
    for seed in range(arguments.seeds):
        details["ours"].append(_ours(arguments.data, arguments.flops, seed))
        print(details["ours"][-1], flush=True)
    rows.append(["nanoGPT, GPU recipe (published)", PUBLISHED, None, 5.2e15, None])
    rows.append(
        [
            "nanoGPT, CPU recipe (here)",
            rival.bits_per_byte,
            None,
            rival.training_flops,
            rival.seconds,
        ]
    )
    rows += [
        [f"ours, seed {seed}", run["cold"], run["overlapping"], run["flops"], run["seconds"]]
        for seed, run in enumerate(details["ours"])
    ]
    mean = {
        key: float(np.mean([run[key] for run in details["ours"]]))
        for key in ("cold", "overlapping", "flops", "seconds")
    }
    rows.append(["ours, mean", *mean.values()])
    write_result(
        "tinyshakespeare",
        summary=f"Bits per byte on the last 10 % of tinyshakespeare: {mean['cold']:.3f} from cold "
        f"windows of 256 bytes (nanoGPT's GPU recipe: {PUBLISHED:.3f} at "
        f"{5.2e15 / mean['flops']:.0f} times the FLOPs).",
        columns=["run", "cold windows", "128+ bytes of context", "training FLOPs", "seconds"],
        rows=rows,
        details={"runs": details, "model": MODEL.to_dict(), "optimizer": vars(OPTIMIZER)},
    )


def _ours(path: Path, budget: float, seed: int) -> dict[str, float]:
    dataset = hold_out_tenth(path, WINDOW)
    torch.manual_seed(seed)
    network = BitTransformer(MODEL)
    per_byte = training_flops_per_byte(MODEL)
    steps = int(budget / (per_byte * BATCH * WINDOW))
    config = TrainConfig(steps=steps, batch_size=BATCH, seed=seed, warmup=0.02, decay=0.98)
    trained = train(network, dataset, config, OPTIMIZER, name=f"seed {seed}")
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    overlapping = score_bytes(network, held_out, window_bytes=WINDOW, overlap_bytes=128)
    return {
        "cold": cold_bits_per_byte(network, held_out, WINDOW),
        "overlapping": overlapping.bits_per_byte,
        "flops": trained.data_bytes * per_byte,
        "seconds": trained.seconds,
        "training_loss_at_the_end": trained.final_loss,
    }


if __name__ == "__main__":
    main()
