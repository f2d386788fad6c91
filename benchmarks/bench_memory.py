"""Compare the memory estimate of a run with the memory that the run takes.

    python benchmarks/bench_memory.py

Each configuration trains three steps in a process of its own, whose allocator returns freed memory
at once. The measured value is the peak of the resident set above its size before the network was
built.
"""

import argparse
import dataclasses
import gc
from collections.abc import Sequence
from typing import Any

import torch
from memory import in_a_child, peak_above_now
from report import write_result

from bit_transformer import OptimizerConfig, RunConfig, preset
from bit_transformer.distributed.parallelize import parallelize
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import Causal
from bit_transformer.training.memory_estimate import estimate_training
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.trainer import Trainer


def _run(name: str, model: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    settings: dict[str, Any] = {"steps": 3, "device": "cpu", "telemetry_every": 0}
    optimizer = OptimizerConfig(optimizer=train.pop("optimizer", "muon"))
    config = ModelConfig.from_dict(preset(name).to_dict() | (model or {}))
    sections = {"model": config.to_dict(), "train": settings | train}
    return dataclasses.replace(RunConfig.from_dict(sections), optimizer=optimizer)


RUNS = {
    "tiny": _run("tiny"),
    "tiny, float32": _run("tiny", precision="fp32"),
    "tiny, 4 micro-batches": _run("tiny", accumulate=4),
    "tiny, 32 windows": _run("tiny", batch_size=32),
    "tiny, 32 windows, checkpointed": _run("tiny", batch_size=32, use_checkpoint=True),
    "tiny, 32 windows, reversible": _run("tiny", {"reversible": True}, batch_size=32),
    "tiny, 32 windows, chunked": _run("tiny", {"chunk_size": 512, "overlap": 256}, batch_size=32),
    "tiny, 32 windows, halting": _run("tiny", {"use_act": True}, batch_size=32),
    "small": _run("small"),
    "small, AdamW, float32": _run("small", optimizer="adamw", precision="fp32"),
    "medium, 2 windows": _run("medium", batch_size=2),
}


class _Windows:
    """A loader that returns the same random windows every time."""

    def __init__(self, rows: int, bits: int) -> None:
        self._batch = torch.randint(0, 2, (rows, bits), dtype=torch.uint8)

    def next_batch(self) -> torch.Tensor:
        return self._batch

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", choices=RUNS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.run:
        print(_measured(RUNS[arguments.run]))
        return
    rows: list[Sequence[Any]] = []
    for name, config in RUNS.items():
        estimate = estimate_training(config)
        estimated = estimate.peak / 2**20
        measured = in_a_child(__file__, ["--run", name])
        rows.append([name, estimated, measured, estimated / measured, estimate.activations / 2**20])
        print(rows[-1], flush=True)
    write_result(
        "memory",
        summary="MiB at the peak of a training step, estimated before the run and measured.",
        columns=["run", "estimated", "measured", "estimated / measured", "of it activations"],
        rows=rows,
        details={name: dataclasses.asdict(config.train) for name, config in RUNS.items()},
    )


def _measured(config: RunConfig) -> float:
    _steps(dataclasses.replace(config, model=_smallest()))
    gc.collect()
    return peak_above_now(lambda: _steps(config))


def _smallest() -> ModelConfig:
    """A network whose training loads all code, so that this memory is not counted."""
    return ModelConfig(d_model=16, nhead=2, num_layers=1, memory_slots=64, max_seq_len=20_000)


def _steps(config: RunConfig) -> None:
    train = config.train
    network = BitTransformer(config.model)
    parallelize(network, config.parallel)
    optimizer = build_optimizer(network, config.optimizer)
    bits = config.window_bytes * config.model.bits_per_byte
    windows = _Windows(train.batch_size // train.accumulate, bits)
    Trainer(network, Causal(), windows, optimizer, train).fit()


if __name__ == "__main__":
    main()
