"""Train a GPU-sized model in bfloat16 with compiled branches for a fixed time.

    python benchmarks/gpu/bench_train.py --minutes 5 --data enwik8

The dated result has the utilisation of model FLOPs (by `model/flops.py`), bytes per second, peak
memory and held-out bits per byte. Without --data it trains on the Python standard library. Without
a GPU it runs the preset `tiny`, to show that the script works.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import write_result
from training import cold_bits_per_byte

from bit_transformer import DataConfig, OptimizerConfig, preset
from bit_transformer.data.dataset import open_dataset
from bit_transformer.data.loader import WindowLoader
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.model.flops import training_flops_per_byte
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.optimizer import CombinedOptimizer, build_optimizer, gradient_norm
from bit_transformer.training.precision import autocast

PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s by the data sheets."""
HELD_OUT_BYTES = 1 << 20
WARM_UP_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--preset", default="large" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = preset(arguments.preset)
    torch.manual_seed(0)
    network = BitTransformer(config).to(device).train()
    if not arguments.no_compile:
        compile_branches(network)
    window = config.max_seq_len // 8
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(
            DataConfig(tuple(arguments.data)), window_bytes=window, spool=Path(folder)
        )
        loader = dataset.loader(arguments.batch_size)
        optimizer = build_optimizer(network, OptimizerConfig())
        steps, seconds, loss = _train(network, loader, optimizer, device, arguments.minutes)
        held_out = np.concatenate(list(dataset.held_out_bytes(HELD_OUT_BYTES)))
    found = cold_bits_per_byte(network.eval(), held_out, window)
    data_bytes = steps * arguments.batch_size * window
    flops = data_bytes * training_flops_per_byte(config) / seconds
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = next((value for key, value in PEAK_BF16.items() if key in name), None)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    weights = sum(weight.numel() for weight in network.parameters())
    write_result(
        "gpu-train",
        summary=f"{arguments.preset} preset, bf16, compiled branches: {not arguments.no_compile}.",
        columns=[
            "device",
            "weights",
            "steps",
            "bytes/s",
            "FLOP/s",
            "MFU",
            "peak GiB",
            "training loss",
            "held-out bits/byte",
        ],
        rows=[
            [
                name,
                weights,
                steps,
                data_bytes / seconds,
                flops,
                flops / peak if peak else None,
                memory,
                loss,
                found,
            ]
        ],
        details={"minutes": arguments.minutes, "batch_size": arguments.batch_size},
    )


def _train(
    network: BitTransformer,
    loader: WindowLoader,
    optimizer: CombinedOptimizer,
    device: torch.device,
    minutes: float,
) -> tuple[int, float, float]:
    """Steps and seconds after the warm-up, and the mean loss of the last 20 steps."""
    losses: list[float] = []
    began, step = time.perf_counter(), 0
    while step <= WARM_UP_STEPS or time.perf_counter() - began < 60 * minutes:
        bits = loader.next_batch().to(device, non_blocking=True)
        optimizer.scale_rates(min(1.0, (step + 1) / 100))
        with autocast(device, "bf16"):
            loss = next_bit_loss(network, bits)
        optimizer.zero_grad()
        loss.backward()
        gradient_norm(optimizer.dense_parameters(), 1.0)
        optimizer.step()
        # Reading the loss waits for the device, so that the time includes finished work only.
        losses.append(float(loss))
        step += 1
        if step == WARM_UP_STEPS:
            began = time.perf_counter()
    return step - WARM_UP_STEPS, time.perf_counter() - began, float(np.mean(losses[-20:]))


if __name__ == "__main__":
    main()
