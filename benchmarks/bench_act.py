"""What stopping early saves in time, and what it costs in bits.

    python benchmarks/bench_act.py --data tinyshakespeare.txt

Networks trained on the same steps: plain, and with halting units at several ponder costs. Each of
the latter is used at several thresholds; at 1 nothing stops. Decoding reads held-out text byte by
byte through the compiled step; scoring reads whole windows. Times are ratios to the same network at
threshold 1, in turn, best of the rounds.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
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
        summary=f"{arguments.steps} steps, {arguments.layers} layers of width 128; time and loss "
        "of each network are relative to itself at threshold 1, where no patch stops.",
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
    """Loss, share of blocks run, seconds of decoding and of scoring."""
    stack = network.stack
    assert isinstance(stack, HaltingStack)
    windows = torch.from_numpy(unpack_bytes(held_out[: 64 * _WINDOW].reshape(-1, _WINDOW)))
    losses, depths = {}, {}
    seconds = {threshold: [float("inf")] * 2 for threshold in _THRESHOLDS}
    for threshold in _THRESHOLDS:
        stack.threshold = threshold
        losses[threshold] = cold_bits_per_byte(network, held_out, _WINDOW)
        depths[threshold] = _share_of_blocks_run(network, windows)
    uses = (lambda: _decode(network, windows[:2]), lambda: Predictor(network, 64).read(windows))
    for _ in range(_ROUNDS):
        for threshold in _THRESHOLDS:
            stack.threshold = threshold
            for index, use in enumerate(uses):
                seconds[threshold][index] = min(seconds[threshold][index], _seconds(use))
    return {t: (losses[t], depths[t], seconds[t][0], seconds[t][1]) for t in _THRESHOLDS}


def _decode(network: BitTransformer, windows: Tensor) -> None:
    for window in windows:
        predictor = Predictor(network)
        for byte in window[None].split(8, dim=1):
            predictor.read(byte)


@torch.no_grad()
def _share_of_blocks_run(network: BitTransformer, windows: Tensor) -> float:
    """Counted: positions that each feed-forward branch is given."""
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


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
