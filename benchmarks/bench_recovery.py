"""Inject faults into training runs with and without recovery, beside an undisturbed run.

    python benchmarks/bench_recovery.py --data tinyshakespeare.txt

Poisoned data: 30 consecutive batches are random bytes. NaN gradients: the gradients of 6 steps are
NaN. Rates x 100: all learning rates are 100 times too high. All runs begin with the same weights
and read the same windows in the same number of steps. Held-out windows are cold.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
from torch import Tensor
from training import Lines, cold_bits_per_byte, hold_out_tenth

from bit_transformer import ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.data.dataset import Dataset
from bit_transformer.errors import TrainingError
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import Causal
from bit_transformer.training.callbacks.base import (
    Callback,
    Loader,
    RecoveryRecord,
    RunningTrainer,
)
from bit_transformer.training.callbacks.recovery import NaNGuard, Recovery
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.trainer import Trainer

_MODEL = ModelConfig(d_model=128, nhead=4, num_layers=4, dim_feedforward=512, max_seq_len=1024)
_WINDOW = 128
_POISONED = range(100, 130)
_NAN_STEPS = (40, 41, 120, 121, 122, 200)
_TOO_HIGH = 100.0


class Poisoned:
    """A loader that replaces some batches by random bits."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def next_batch(self) -> Tensor:
        index = self.state_dict()["batches"]
        bits = self._loader.next_batch()
        if index not in _POISONED:
            return bits
        noise = torch.Generator().manual_seed(index)
        return torch.randint(0, 2, bits.shape, generator=noise, dtype=torch.uint8)

    def state_dict(self) -> dict[str, int]:
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._loader.load_state_dict(state)


def _poison(trainer: Trainer) -> None:
    trainer.loader = Poisoned(trainer.loader)


def _nan_gradients(trainer: Trainer) -> None:
    due = set(_NAN_STEPS)

    def spoil(gradient: Tensor) -> Tensor:
        step = trainer.progress.step
        if step not in due:
            return gradient
        due.remove(step)
        return gradient * torch.nan

    trainer.network.head.nodes.register_hook(spoil)


def _raise_rates(trainer: Trainer) -> None:
    for group in trainer.optimizer.param_groups:
        group["base_lr"] *= _TOO_HIGH


FAULTS: dict[str, Callable[[Trainer], None]] = {
    "none": lambda trainer: None,
    "poisoned data": _poison,
    "NaN gradients": _nan_gradients,
    "rates x 100": _raise_rates,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    bits_per_byte: float | None
    """Cost of held-out data. None when the run stopped."""
    records: list[RecoveryRecord]
    seconds: float


class _Records(Callback):
    def __init__(self) -> None:
        self.records: list[RecoveryRecord] = []

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        self.records.append(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    rows: list[list[Any]] = []
    outcomes: dict[str, Any] = {}
    undisturbed = None
    for fault in FAULTS:
        for recover in (False, True):
            found = _run(dataset, arguments.steps, fault, recover=recover)
            undisturbed = undisturbed or found.bits_per_byte
            rows.append(_row(fault, found, undisturbed, recover=recover))
            outcomes[f"{fault}, {'on' if recover else 'off'}"] = dataclasses.asdict(found)
            print(rows[-1], flush=True)
    write_result(
        "recovery",
        summary=f"{arguments.steps} steps with one fault each. Without a figure, the run stopped.",
        columns=["fault", "recovery", "bits per byte", "of undisturbed", *_COUNTS],
        rows=rows,
        details={"outcomes": outcomes},
    )


_COUNTS = ("steps skipped", "returns", "rates at the end", "steps done again", "seconds")


def _row(fault: str, found: Outcome, undisturbed: float | None, *, recover: bool) -> list[Any]:
    ratio = None
    if found.bits_per_byte is not None and undisturbed is not None:
        ratio = found.bits_per_byte / undisturbed
    returns = [record for record in found.records if record.action == "return"]
    return [
        fault,
        "on" if recover else "off",
        found.bits_per_byte,
        ratio,
        len(found.records) - len(returns),
        len(returns),
        found.records[-1].rate_factor if found.records else 1.0,
        sum(record.skipped_steps for record in returns),
        found.seconds,
    ]


def _run(dataset: Dataset, steps: int, fault: str, *, recover: bool) -> Outcome:
    torch.manual_seed(0)
    network = BitTransformer(_MODEL)
    config = TrainConfig(steps=steps, batch_size=8, device="cpu")
    records = _Records()
    guard: Callback = Recovery(every=25, limit=10) if recover else NaNGuard()
    beside: Sequence[Callback] = [guard, records, Lines(f"{fault}, {recover=}")]
    optimizer = build_optimizer(network, OptimizerConfig())
    loader = dataset.loader(config.batch_size, seed=config.seed)
    trainer = Trainer(network, Causal(), loader, optimizer, config, beside)
    FAULTS[fault](trainer)
    started = time.perf_counter()
    try:
        trainer.fit()
    except TrainingError as error:
        print(error, flush=True)
        return Outcome(None, records.records, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    network.eval()
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    found = cold_bits_per_byte(network, held_out, _WINDOW)
    return Outcome(found, records.records, seconds)


if __name__ == "__main__":
    main()
