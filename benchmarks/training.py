"""Training and held-out scoring, shared by the benchmarks."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bit_transformer import DataConfig, OptimizerConfig, TrainConfig
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.data.config import Layout
from bit_transformer.data.dataset import Dataset, open_dataset
from bit_transformer.model.transformer import BitTransformer, bit_logits
from bit_transformer.objectives.base import Objective
from bit_transformer.objectives.causal import Causal, mean_code_length
from bit_transformer.training.callbacks.base import Callback, RunningTrainer, StepRecord
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.trainer import Trainer

Loss = Callable[[Any, Tensor], Tensor]
"""From a network and bits (B, T) to bits per byte."""


@dataclass(frozen=True)
class Trained:
    """Cost and last loss of a training run."""

    seconds: float
    data_bytes: int
    final_loss: float
    """Mean of the last 50 steps, in bits per byte."""


class Lines(Callback):
    """Print the progress of a run every `every_seconds`."""

    def __init__(self, name: str, every_seconds: float = 30.0) -> None:
        self._name, self._every, self._spoke = name, every_seconds, time.monotonic()
        self.losses: list[float] = []

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        self.losses.append(record.loss)
        if time.monotonic() - self._spoke > self._every:
            self._spoke = time.monotonic()
            print(
                f"  {self._name}: step {record.step}/{trainer.config.steps} "
                f"{np.mean(self.losses[-50:]):.3f}",
                flush=True,
            )


class LossAlone(Causal):
    """The causal objective with another training loss."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def loss(self, network: BitTransformer, bits: Tensor, progress: float = 1.0) -> Tensor:
        return self._loss(network, bits)


def hold_out_tenth(path: Path, window_bytes: int, layout: Layout = "tail") -> Dataset:
    """Split a file: 90 % to train on, 10 % held out at its end or in regions spread over it."""
    config = DataConfig((str(path),), held_out_fraction=0.1, held_out_layout=layout)
    return open_dataset(config, window_bytes=window_bytes, spool=path.parent)


def train(
    network: BitTransformer,
    dataset: Dataset,
    config: TrainConfig,
    optimizer: OptimizerConfig,
    *,
    objective: Objective = Causal(),  # noqa: B008 -- it has no state
    name: str = "",
    also: Sequence[Callback] = (),
) -> Trained:
    """Train a network in place with `Trainer`, and keep the averaged weights if it averages."""
    lines = Lines(name)
    loader = dataset.loader(config.batch_size, seed=config.seed)
    parts = build_optimizer(network, optimizer)
    trainer = Trainer(network, objective, loader, parts, config, [lines, *also])
    done = trainer.fit()
    trainer.average.keep()
    network.eval()
    return Trained(done.seconds, done.data_bytes, float(np.mean(lines.losses[-50:])))


@torch.no_grad()
def code_length(network: BitTransformer, bits: Tensor) -> Tensor:
    """Bits per byte of one inference pass, in which adaptive computation exits early."""
    return mean_code_length(bit_logits(network, bits), bits, network.config.bits_per_byte)


def cold_bits_per_byte(
    network: BitTransformer,
    held_out: np.ndarray,
    window: int,
    *,
    loss: Loss = code_length,
) -> float:
    """Bits per byte of all of `held_out`, in windows (of `window` bytes) without context."""
    total = 0.0
    for rows in _windows(held_out, window):
        bits = torch.from_numpy(unpack_bytes(rows)).to(network.device)
        total += float(loss(network, bits)) * rows.size
    return total / len(held_out)


def _windows(data: np.ndarray, window: int) -> Iterator[np.ndarray]:
    whole = len(data) // window * window
    for rows in np.array_split(data[:whole].reshape(-1, window), max(1, whole // window // 32)):
        if len(rows):
            yield rows
    if whole < len(data):
        yield data[None, whole:]
