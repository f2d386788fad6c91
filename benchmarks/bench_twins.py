"""Bit tree against byte softmax, same trunk, optimizer, steps and data, and against flat bits.

    python benchmarks/bench_twins.py --data tinyshakespeare.txt alice29.txt+kennedy.xls
    python benchmarks/bench_twins.py --costs-only

An ablation adds one thing at a time. Files joined by `+` are one corpus. Quality is bits per byte
in cold windows on a held-out tenth (the last one; of joined files, regions spread over all of
them), mean and spread over seeds; cost per byte is measured in turn, best of several rounds, so
that it compares on a busy machine.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import without_folders, write_result
from training import Loss, LossAlone, cold_bits_per_byte, hold_out_tenth, train
from twins import byte_softmax_network, next_byte_loss

from bit_transformer import ModelConfig, OptimizerConfig, SamplingConfig, TrainConfig
from bit_transformer.data.dataset import Dataset
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import draw_patch, sample_patch
from bit_transformer.model.flops import training_flops_per_byte
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss

WINDOW = 128
BASE = ModelConfig(
    d_model=128, nhead=4, num_layers=4, dim_feedforward=512, max_seq_len=8 * WINDOW, memory_bits=()
)
MEMORY = dataclasses.replace(BASE, memory_bits=(16, 24, 32, 48), memory_dropout=0.5)
FLAT = dataclasses.replace(BASE, patch_size=1)
MUON = OptimizerConfig()
ADAMW = OptimizerConfig(optimizer="adamw")


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

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
    parser.add_argument("--data", nargs="+", default=[], help="files; a+b is one corpus")
    parser.add_argument("--costs-only", action="store_true", help="without training")
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
        "twins",
        summary=f"Held-out bits per byte over {arguments.seeds} seeds after {budget:.2e} training "
        "FLOPs (the memory's few are not held against it); costs relative to the byte softmax with "
        "Muon and the same memory.",
        columns=["corpus: variant", "bits/byte", "std", "training cost", "decoding cost"],
        rows=rows,
        details={"bits_per_byte_by_seed": details, "steps": arguments.steps},
    )


def _write_costs(training: dict[str, float], decoding: dict[str, float]) -> None:
    write_result(
        "twins-cost",
        summary="Cost per byte relative to the byte softmax of the same memory, on one thread, "
        "best of 15 rounds taken in turn.",
        columns=["variant", "training cost", "decoding cost"],
        rows=[[name, training[name], decoding[name]] for name in training],
        details={},
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
        # About as many steps as the others, in batches as small as the budget makes them.
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
    """Cost per byte of each tree against its twin, in training and in decoding, on one thread: with
    more, a busy machine is measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training, decoding = {}, {}
    for softmax, tree in ((VARIANTS[2], VARIANTS[3]), (VARIANTS[4], VARIANTS[5])):
        steps = [_training_step(variant) for variant in (softmax, tree)]
        draws = [_decoding(variant) for variant in (softmax, tree)]
        training[softmax.name] = decoding[softmax.name] = 1.0
        training[tree.name] = _ratio(steps[1], steps[0], rounds=15)
        decoding[tree.name] = _ratio(draws[1], draws[0], rounds=15)
    torch.set_num_threads(threads)
    return training, decoding


def _training_step(variant: Variant) -> Callable[[], object]:
    network = variant.build().train()
    bits = torch.randint(0, 2, (16, 8 * WINDOW), dtype=torch.uint8)

    def step() -> None:
        network.zero_grad()
        variant.loss(network, bits).backward()

    return step


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


def _ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> float:
    """Best time of the one over best time of the other, taken in turn."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        for index, function in enumerate((ours, theirs)):
            began = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - began)
    return best[0] / best[1]


if __name__ == "__main__":
    main()
