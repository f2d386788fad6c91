"""Faults put into a run, with recovery and without, beside the undisturbed run.

    python benchmarks/bench_recovery.py --data tinyshakespeare.txt

Poisoned data: a stretch of the batches is random bytes. NaN gradients: some steps have one. Absurd
rate: all learning rates are a hundred times too high. Same weights, windows and steps everywhere.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from report import write_result
from training import cold_bits_per_byte, hold_out_tenth

from bit_transformer import ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.data.dataset import Dataset
from bit_transformer.errors import TrainingError
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.next_bit import next_bit_loss
from bit_transformer.training.callbacks.base import Callback, RecoveryRecord, RunningTrainer
from bit_transformer.training.callbacks.nan_guard import NaNGuard
from bit_transformer.training.callbacks.recovery import Recovery
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.trainer import Trainer

WINDOW = 128
MODEL = ModelConfig(
    d_model=128,
    nhead=4,
    num_layers=4,
    dim_feedforward=512,
    max_seq_len=8 * WINDOW,
    memory_dropout=0.5,
)
POISONED = range(100, 120)
BROKEN = (60, 61, 62, 150, 200)
ABSURD = 100.0


class Poisoned:
    """A loader some of whose batches are random bits."""

    def __init__(self, loader: object) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def next_batch(self) -> torch.Tensor:
        batches = self._loader.state_dict()["batches"]  # type: ignore[attr-defined]
        bits = self._loader.next_batch()  # type: ignore[attr-defined]
        if batches not in POISONED:
            return bits
        generator = torch.Generator().manual_seed(batches)
        return torch.randint(0, 2, bits.shape, dtype=torch.uint8, generator=generator)


def broken_gradients(trainer: Trainer) -> None:
    """Have some backward passes give a NaN."""
    passes = iter(range(10**9))

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.nan if next(passes) in BROKEN else gradient

    trainer.network.head.nodes.register_hook(spoil)


def poisoned_data(trainer: Trainer) -> None:
    """Have a stretch of the batches be noise."""
    trainer.loader = Poisoned(trainer.loader)  # type: ignore[assignment]


def absurd_rate(trainer: Trainer) -> None:
    """Have all rates a hundred times too high."""
    for group in trainer.optimizer.param_groups:
        group["base_lr"] *= ABSURD


Fault = Callable[[Trainer], None]
FAULTS: dict[str, Fault | None] = {
    "undisturbed": None,
    "poisoned data": poisoned_data,
    "NaN gradients": broken_gradients,
    "absurd rate": absurd_rate,
}


class Recoveries(Callback):
    """Counts them."""

    def __init__(self) -> None:
        self.records: list[RecoveryRecord] = []

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        self.records.append(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    dataset = hold_out_tenth(arguments.data, WINDOW)
    run = functools.partial(_run, dataset, arguments.steps)
    undisturbed = run(None, recover=False)[0] or float("nan")
    rows: list[list[object]] = []
    for name, fault in FAULTS.items():
        for recover in (True, False):
            found, records = run(fault, recover=recover)
            ratio = None if found is None else found / undisturbed
            rows.append([name, "on" if recover else "off", found, ratio, len(records)])
            print(rows[-1], [dataclasses.asdict(record) for record in records], flush=True)
    write_result(
        "recovery",
        summary=f"Held-out bits per byte after {arguments.steps} steps; empty: the run stopped.",
        columns=["fault", "recovery", "bits/byte", "of the undisturbed run", "times taken back"],
        rows=rows,
        details={"absurd_factor": ABSURD, "poisoned_batches": len(POISONED)},
    )


def _run(
    dataset: Dataset, steps: int, fault: Fault | None, *, recover: bool
) -> tuple[float | None, list[RecoveryRecord]]:
    torch.manual_seed(0)
    network = BitTransformer(MODEL)
    config = TrainConfig(steps=steps, batch_size=8)
    recoveries = Recoveries()
    guard: Callback = Recovery(next_bit_loss, 25, 20) if recover else NaNGuard()
    trainer = Trainer(
        network,
        next_bit_loss,
        dataset.loader(config.batch_size),
        build_optimizer(network, OptimizerConfig(memory_lr=0.05)),
        config,
        [guard, recoveries],
    )
    if fault is not None:
        fault(trainer)
    try:
        trainer.fit()
    except TrainingError as error:
        print(error)
        return None, recoveries.records
    network.eval()
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    return cold_bits_per_byte(network, held_out, WINDOW), recoveries.records


if __name__ == "__main__":
    main()
