"""Measure the time that adaptive computation saves and the bits that it costs.

    python benchmarks/bench_act.py --data tinyshakespeare.txt

A plain network and networks with halting units at several ponder costs are trained on the same
steps. Each network with halting units runs at several thresholds; at 1 no position exits early.
Decoding reads held-out text byte by byte through the compiled step. Scoring reads whole windows.
Times are relative to the same network at threshold 1. The sides take turns, and the best round
counts.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
from timing import best_seconds
from torch import Tensor
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, Predictor, TrainConfig
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.model.halting import HaltingStack
from bit_transformer.model.transformer import BitTransformer

_WINDOW = 128
_THRESHOLDS = (1.0, 0.9, 0.5)
_ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--costs", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    held_out = np.concatenate(list(dataset.held_out_bytes()))[: 512 * _WINDOW]
    settings = TrainConfig(steps=arguments.steps, batch_size=8, device="cpu")

    def trained(cost: float | None) -> BitTransformer:
        torch.manual_seed(0)
        network = BitTransformer(
            ModelConfig(
                d_model=128,
                nhead=2,
                num_layers=arguments.layers,
                dim_feedforward=512,
                max_seq_len=8 * _WINDOW,
                memory_bits=(16, 24, 32),
                memory_slots=1 << 14,
                use_act=cost is not None,
                ponder_cost=cost or 0.0,
            )
        )
        train(network, dataset, settings, OptimizerConfig())
        return network.eval()

    plain = cold_bits_per_byte(trained(None), held_out, _WINDOW)
    rows: list[Sequence[Any]] = [["plain", None, plain, 1.0, None, None, None]]
    for cost in arguments.costs:
        network = trained(cost)
        found = _at_thresholds(network, held_out)
        for threshold, (loss, depth, decoding, scoring) in found.items():
            full = found[1.0]
            times = (decoding / full[2], scoring / full[3])
            rows.append([f"ponder cost {cost}", threshold, loss, loss / full[0], depth, *times])
            print(rows[-1], flush=True)
    write_result(
        f"act-{arguments.layers}-layers",
        summary=f"{arguments.steps} steps, {arguments.layers} layers of width 128. Time and loss "
        "of each network are relative to itself at threshold 1, where no position exits early.",
        columns=[
            *("network", "threshold", "bits per byte", "of threshold 1", "share of blocks run"),
            *("decoding time", "scoring time"),
        ],
        rows=rows,
        details={},
    )


def _at_thresholds(
    network: BitTransformer, held_out: np.ndarray
) -> dict[float, tuple[float, float, float, float]]:
    """Loss, share of blocks run, and seconds of decoding and of scoring, by threshold."""
    stack = network.stack
    assert isinstance(stack, HaltingStack)
    windows = torch.from_numpy(unpack_bytes(held_out[: 64 * _WINDOW].reshape(-1, _WINDOW)))
    losses, depths = {}, {}
    for threshold in _THRESHOLDS:
        stack.threshold = threshold
        losses[threshold] = cold_bits_per_byte(network, held_out, _WINDOW)
        depths[threshold] = _share_of_blocks_run(network, windows)

    def at(threshold: float, use: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            stack.threshold = threshold
            use()

        return run

    def score() -> None:
        Predictor(network, 64).read(windows)

    uses: list[Callable[[], None]] = [lambda: _decode(network, windows[:2]), score]
    seconds = best_seconds(
        {(t, index): at(t, use) for t in _THRESHOLDS for index, use in enumerate(uses)}, _ROUNDS
    )
    return {t: (losses[t], depths[t], seconds[t, 0], seconds[t, 1]) for t in _THRESHOLDS}


def _decode(network: BitTransformer, windows: Tensor) -> None:
    for window in windows:
        predictor = Predictor(network)
        for byte in window[None].split(8, dim=1):
            predictor.read(byte)


@torch.no_grad()
def _share_of_blocks_run(network: BitTransformer, windows: Tensor) -> float:
    """Count the positions that reach each feed-forward branch, relative to all positions."""
    counts: list[int] = []
    hooks = [
        block.feed_forward.register_forward_hook(
            lambda _, given, __: counts.append(given[0].shape[:-1].numel())
        )
        for block in network.stack
    ]
    Predictor(network, len(windows)).read(windows)
    for hook in hooks:
        hook.remove()
    positions = len(windows) * (windows.shape[1] // 8 + 1)
    return sum(counts) / (positions * len(list(network.stack)))


if __name__ == "__main__":
    main()
