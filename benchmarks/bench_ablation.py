"""Add one part at a time to a byte model: the bit tree, Muon, the context memory; and flat bits.

    python benchmarks/bench_ablation.py --data tinyshakespeare.txt alice29.txt+kennedy.xls
    python benchmarks/bench_ablation.py --costs-only

An ablation adds one part at a time. Files joined by `+` are one corpus. Quality is bits per byte in
cold windows of a held-out tenth, as mean and spread over seeds. The tenth is the last one; joined
files hold out regions spread over all of them. Costs are processor time of one thread. The sides
take turns and the best round counts, so that ratios hold on a busy machine.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import without_folders, write_result
from timing import best_seconds
from training import Loss, LossAlone, cold_bits_per_byte, hold_out_tenth, train
from twins import byte_softmax_network, next_byte_loss

from bit_transformer import ModelConfig, OptimizerConfig, SamplingConfig, TrainConfig
from bit_transformer.data.dataset import Dataset
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import draw_patch, sample_patch
from bit_transformer.model.flops import training_flops_per_byte
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.optimizer import build_optimizer, gradient_norm

WINDOW = 128
BASE = ModelConfig(
    d_model=128, nhead=4, num_layers=4, dim_feedforward=512, max_seq_len=8 * WINDOW, memory_bits=()
)
MEMORY = dataclasses.replace(BASE, memory_bits=(16, 24, 32, 48), memory_dropout=0.5)
FLAT = dataclasses.replace(BASE, patch_size=1)
MUON = OptimizerConfig()
ADAMW = OptimizerConfig(optimizer="adamw")
ROUNDS = 15


@dataclass(frozen=True)
class Variant:
    """One row of the table: a network with its optimizer."""

    name: str
    config: ModelConfig
    optimizer: OptimizerConfig
    softmax: bool = False

    def build(self) -> BitTransformer:
        return byte_softmax_network(self.config) if self.softmax else BitTransformer(self.config)

    @property
    def loss(self) -> Loss:
        return next_byte_loss if self.softmax else next_bit_loss


VARIANTS = [
    Variant("byte softmax, AdamW", BASE, ADAMW, softmax=True),
    Variant("bit tree, AdamW", BASE, ADAMW),
    Variant("byte softmax, Muon", BASE, MUON, softmax=True),
    Variant("bit tree, Muon", BASE, MUON),
    Variant("byte softmax, Muon, memory", MEMORY, MUON, softmax=True),
    Variant("bit tree, Muon, memory", MEMORY, MUON),
    Variant("flat bits (P = 1), Muon, equal FLOPs", FLAT, MUON),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", nargs="+", default=[], help="files to train on; a+b is one corpus"
    )
    parser.add_argument("--costs-only", action="store_true", help="measure costs and train nothing")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    budget = arguments.steps * arguments.batch_size * WINDOW * training_flops_per_byte(BASE)
    rows, details = [], {}
    train_cost, decode_cost = _costs()
    if arguments.costs_only:
        _write_costs(train_cost, decode_cost)
        return
    for corpus in arguments.data:
        found = _qualities(corpus, arguments, budget)
        label = without_folders(corpus)
        details[label] = found
        for variant in VARIANTS:
            values = found[variant.name]
            rows.append(
                [
                    f"{label}: {variant.name}",
                    float(np.mean(values)),
                    float(np.std(values)),
                    train_cost.get(variant.name),
                    decode_cost.get(variant.name),
                ]
            )
    write_result(
        "ablation",
        summary=f"Held-out bits per byte over {arguments.seeds} seeds after {budget:.2e} training "
        "FLOPs, without the few FLOPs of the memory. Costs are relative to the byte softmax with "
        "Muon and the same memory.",
        columns=["corpus: variant", "bits/byte", "std", "training cost", "decoding cost"],
        rows=rows,
        details={"bits_per_byte_by_seed": details, "steps": arguments.steps},
    )


def _write_costs(training: Mapping[str, float], decoding: Mapping[str, float]) -> None:
    memory, memory_seconds = _memory_costs()
    write_result(
        "ablation-cost",
        summary="Training (forward and backward pass) and decoding: cost per byte relative to the "
        "byte softmax with the same memory. Whole step, optimizer included: relative to the bit "
        f"tree without memory. Processor time of one thread, best of {ROUNDS} rounds in turn.",
        columns=["variant", "training cost", "decoding cost", "whole step, cost of the memory"],
        rows=[[name, training[name], decoding[name], memory.get(name)] for name in training],
        details={"seconds_of_a_whole_step": memory_seconds},
    )


def _qualities(corpus: str, arguments: argparse.Namespace, budget: float) -> dict[str, list[float]]:
    parts = [Path(part) for part in corpus.split("+")]
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / "corpus"
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        dataset = hold_out_tenth(joined, WINDOW, "spread" if len(parts) > 1 else "tail")
        return {
            variant.name: [
                _quality(variant, dataset, arguments, budget, seed)
                for seed in range(arguments.seeds)
            ]
            for variant in VARIANTS
        }


def _quality(
    variant: Variant, dataset: Dataset, arguments: argparse.Namespace, budget: float, seed: int
) -> float:
    steps, batch_size = arguments.steps, arguments.batch_size
    if variant.config.patch_size == 1:
        # As many steps as the others. Batches shrink until the FLOPs are equal.
        per_window = training_flops_per_byte(variant.config) * WINDOW
        batch_size = max(1, round(budget / (per_window * steps)))
        steps = round(budget / (per_window * batch_size))
    torch.manual_seed(seed)
    network = variant.build()
    config = TrainConfig(steps=steps, batch_size=batch_size, seed=seed, warmup=0.05, decay=0.8)
    train(
        network,
        dataset,
        config,
        variant.optimizer,
        objective=LossAlone(variant.loss),
        name=f"{variant.name} seed {seed}",
    )
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    found = cold_bits_per_byte(network, held_out, WINDOW, loss=variant.loss)
    print(f"{variant.name} seed {seed}: {found:.4f}", flush=True)
    return found


def _costs() -> tuple[dict[str, float], dict[str, float]]:
    """Cost per byte of each bit tree relative to its twin, in training and in decoding."""
    training, decoding = {}, {}
    for softmax, tree in ((VARIANTS[2], VARIANTS[3]), (VARIANTS[4], VARIANTS[5])):
        steps = _seconds({variant.name: _training_step(variant) for variant in (softmax, tree)})
        draws = _seconds({variant.name: _decoding(variant) for variant in (softmax, tree)})
        for name in (softmax.name, tree.name):
            training[name] = steps[name] / steps[softmax.name]
            decoding[name] = draws[name] / draws[softmax.name]
    return training, decoding


def _memory_costs() -> tuple[dict[str, float], dict[str, float]]:
    """Cost of a whole training step of the bit tree without and with the context memory, relative
    to the former, and its seconds."""
    without, with_memory = VARIANTS[3], VARIANTS[5]
    steps = {variant.name: _whole_step(variant) for variant in (without, with_memory)}
    seconds = _seconds(steps)
    return {name: taken / seconds[without.name] for name, taken in seconds.items()}, seconds


def _seconds(functions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    # With more threads, the other programs of a busy machine are measured too.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return best_seconds(functions, ROUNDS, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)


def _training_step(variant: Variant) -> Callable[[], object]:
    network, bits = variant.build().train(), _random_windows()

    def step() -> None:
        network.zero_grad()
        variant.loss(network, bits).backward()

    return step


def _whole_step(variant: Variant) -> Callable[[], object]:
    network, bits = variant.build().train(), _random_windows()
    optimizer = build_optimizer(network, variant.optimizer)

    def step() -> None:
        optimizer.zero_grad()
        variant.loss(network, bits).backward()
        gradient_norm(optimizer.dense_parameters(), 1.0)
        optimizer.step()

    return step


def _random_windows() -> torch.Tensor:
    return torch.randint(0, 2, (16, 8 * WINDOW), dtype=torch.uint8)


def _decoding(variant: Variant) -> Callable[[], object]:
    network = variant.build().eval()
    sampling, generator = SamplingConfig(), torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def decode() -> None:
        predictor = Predictor(network)
        for _ in range(100):
            logits = predictor.node_logits
            if variant.softmax:
                patch = draw_patch(logits.log_softmax(-1), sampling, None, generator)
            else:
                patch = sample_patch(logits, sampling, None, generator)
            predictor.push(patch)

    return decode


if __name__ == "__main__":
    main()
