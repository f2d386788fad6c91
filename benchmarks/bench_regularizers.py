"""Measure whether the penalties on K, C and S help: each at two weights, beside no penalty.

    python benchmarks/bench_regularizers.py --data tinyshakespeare.txt

All networks train on the same steps. The results are held-out bits per byte in cold windows, and
properties of samples at temperature 1. A sample counts as a loop when its Lempel-Ziv complexity is
below that of 99 % of held-out windows of the same length. `pulls` is the share of training windows
that still pay the penalty at the end.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
from torch import Tensor
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, SamplingConfig, TrainConfig
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.data.dataset import Dataset
from bit_transformer.inference.generate import generate_bits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import Causal
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.telemetry.metrics import lz_complexity

_MODEL = ModelConfig(
    d_model=96,
    nhead=3,
    num_layers=3,
    dim_feedforward=384,
    max_seq_len=1024,
    memory_bits=(16, 24, 32),
    memory_slots=1 << 14,
)
_WINDOW = 128
_HELD_OUT_WINDOWS = 400
VARIANTS = {
    "none": ObjectiveConfig(),
    "K 0.1": ObjectiveConfig(lambda_k=0.1),
    "K 1": ObjectiveConfig(lambda_k=1.0),
    "C 0.1": ObjectiveConfig(lambda_c=0.1),
    "C 1": ObjectiveConfig(lambda_c=1.0),
    "S 0.1": ObjectiveConfig(lambda_s=0.1),
    "S 1": ObjectiveConfig(lambda_s=1.0),
    "S 1, floor 0.95": ObjectiveConfig(lambda_s=1.0, floor_s=0.95),
}
"""Penalties at the default floors, and S at a floor that a trained network does not reach."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    windows = held_out[: _HELD_OUT_WINDOWS * _WINDOW].reshape(-1, _WINDOW)
    normal = lz_complexity(torch.from_numpy(unpack_bytes(windows)))
    found: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for seed in range(arguments.seeds):
        for name, config in VARIANTS.items():
            found[name].append(_measure(dataset, held_out, normal, config, seed, arguments))
            print(name, seed, found[name][-1], flush=True)
    rows: list[Sequence[Any]] = [
        [name, *np.mean(runs, axis=0).tolist(), float(np.ptp([run[0] for run in runs]))]
        for name, runs in found.items()
    ]
    write_result(
        "regularizers",
        summary=f"{arguments.steps} steps, mean over {arguments.seeds} seeds, {arguments.samples} "
        f"samples of {_WINDOW} bytes per seed. Held-out windows have a mean C of "
        f"{float(normal.mean()):.3f}, and 1 % of them have a C below "
        f"{float(normal.quantile(0.01)):.3f}.",
        columns=["penalty", "bits per byte", "loops", "mean C", "pulls", "seconds", "seed range"],
        rows=rows,
        details={"runs": found},
    )


def _measure(
    dataset: Dataset,
    held_out: np.ndarray,
    normal: Tensor,
    config: ObjectiveConfig,
    seed: int,
    arguments: argparse.Namespace,
) -> list[float]:
    """Held-out bits per byte, share of loops, mean C, share of steps with a penalty, seconds."""
    torch.manual_seed(seed)
    network = BitTransformer(_MODEL)
    settings = TrainConfig(steps=arguments.steps, batch_size=8, device="cpu", seed=seed)
    plain, penalized = Causal(ObjectiveConfig()), Causal(config)
    trained = train(network, dataset, settings, OptimizerConfig(), objective=penalized)
    nothing = torch.zeros(arguments.samples, 0, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    samples = generate_bits(network, nothing, 8 * _WINDOW, SamplingConfig(), generator)
    complexity = lz_complexity(samples)
    loops = complexity < normal.quantile(0.01)
    return [
        cold_bits_per_byte(network, held_out, _WINDOW),
        float(loops.float().mean()),
        float(complexity.mean()),
        _pulls(network, dataset, plain, penalized, seed),
        trained.seconds,
    ]


@torch.no_grad()
def _pulls(
    network: BitTransformer, dataset: Dataset, plain: Causal, penalized: Causal, seed: int
) -> float:
    """Share of 100 training windows on which the trained network still pays a penalty."""
    loader = dataset.loader(1, seed=seed)
    batches = [loader.next_batch() for _ in range(100)]
    return float(
        np.mean(
            [float(penalized.loss(network, b) - plain.loss(network, b)) > 1e-5 for b in batches]
        )
    )


if __name__ == "__main__":
    main()
