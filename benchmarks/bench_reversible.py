"""Measure what a reversible stack and activation checkpointing save and cost.

    python benchmarks/bench_reversible.py --data tinyshakespeare.txt

Memory: the peak of the resident set in a forward and backward pass, above model and gradients; each
comes from a process of its own. Time: the same passes take turns in one process, and the best round
counts. Quality: plain and reversible networks train on the same windows and score cold held-out
windows.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import in_a_child, peak_above_now
from report import write_result
from timing import best_seconds
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss

DEPTHS = (24, 48)
STACKS = ("plain", "checkpointed", "reversible")
_PATCHES = 2048
_ROUNDS = 3
_WINDOW = 128


def network(stack: str, layers: int) -> BitTransformer:
    """A network of width 256 without context memory, for a context of 2,048 patches."""
    torch.manual_seed(0)
    built = BitTransformer(
        ModelConfig(
            d_model=256,
            nhead=4,
            num_layers=layers,
            dim_feedforward=1024,
            max_seq_len=8 * _PATCHES,
            memory_bits=(),
            reversible=stack == "reversible",
        )
    )
    if stack == "checkpointed":
        checkpoint_blocks(built)
    return built


def passes(stack: str, layers: int) -> Callable[[], None]:
    """Forward and backward pass over one full context."""
    built = network(stack, layers)
    bits = torch.randint(0, 2, (1, 8 * _PATCHES), dtype=torch.uint8)

    def run() -> None:
        next_bit_loss(built, bits).backward()  # type: ignore[no-untyped-call]

    # The first pass allocates the gradients and loads code, which is not measured.
    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--peak", nargs=2, metavar=("STACK", "LAYERS"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        stack, layers = arguments.peak
        print(peak_above_now(passes(stack, int(layers))))
        return
    if arguments.data is None:
        parser.error("the comparison of quality needs text; name a file with --data")
    quality = {layers: _quality(arguments, layers) for layers in DEPTHS}
    rows: list[Sequence[Any]] = []
    for layers in DEPTHS:
        peaks = {s: in_a_child(__file__, ["--peak", s, str(layers)]) for s in STACKS}
        seconds = _seconds(layers)
        for stack in STACKS:
            bits_per_byte = quality[layers].get(stack)
            rows.append(
                [
                    layers,
                    stack,
                    peaks[stack],
                    peaks["plain"] / peaks[stack],
                    seconds[stack] / seconds["plain"],
                    None if bits_per_byte is None else float(np.mean(bits_per_byte)),
                    None
                    if bits_per_byte is None
                    else float(np.mean(bits_per_byte) / np.mean(quality[layers]["plain"])),
                ]
            )
            print(rows[-1], flush=True)
    write_result(
        "reversible",
        summary=f"One sequence of {_PATCHES} patches, width 256, float32. Quality: width 64, "
        f"{arguments.steps} steps, mean of {arguments.seeds} seeds.",
        columns=[
            *("layers", "stack", "activations MiB", "times less", "time"),
            *("bits per byte", "of plain"),
        ],
        rows=rows,
        details={"quality": {str(layers): runs for layers, runs in quality.items()}},
    )


def _seconds(layers: int) -> dict[str, float]:
    return best_seconds({stack: passes(stack, layers) for stack in STACKS}, _ROUNDS)


def _quality(arguments: argparse.Namespace, layers: int) -> dict[str, list[float]]:
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    held_out = np.concatenate(list(dataset.held_out_bytes()))[: 512 * _WINDOW]
    found: dict[str, list[float]] = {"plain": [], "reversible": []}
    for seed in range(arguments.seeds):
        for stack, runs in found.items():
            torch.manual_seed(seed)
            built = BitTransformer(
                ModelConfig(
                    d_model=64,
                    nhead=2,
                    num_layers=layers,
                    dim_feedforward=256,
                    max_seq_len=8 * _WINDOW,
                    memory_bits=(16, 24, 32),
                    memory_slots=1 << 14,
                    reversible=stack == "reversible",
                )
            )
            settings = TrainConfig(steps=arguments.steps, batch_size=8, device="cpu", seed=seed)
            train(built, dataset, settings, OptimizerConfig())
            runs.append(cold_bits_per_byte(built.eval(), held_out, _WINDOW))
            print(layers, stack, seed, runs[-1], flush=True)
    return found


if __name__ == "__main__":
    main()
