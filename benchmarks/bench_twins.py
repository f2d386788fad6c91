"""Compare bit trees with a byte softmax on the same trunk, at length and with tuned rates.

    python benchmarks/bench_twins.py --data english=bible.txt table=kennedy.xls code=stdlib.txt
    python benchmarks/bench_twins.py --report

A fifth of each file is held out in regions that are spread over it. Every other region is for
validation and chooses the learning rates of each arm; the others are reported. The rates of the
matrices and of the embeddings are chosen one after the other, at `--tuning-steps`, with a seed that
is not reported. Then each arm trains for each number of `--steps`, `--width` and memory, with
`--seeds` seeds. Quality is bits per byte in cold windows of 128 bytes. Seconds are processor time
of one thread, without evaluation.

Every finished training is a line of `results/twins-runs.jsonl`. A second call leaves out what is
there already, so the benchmark may be stopped and continued, and several processes may share it
(`--jobs`). `--report` writes the dated result and the curves from what is there.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RESULTS, write_result
from training import LossAlone, cold_bits_per_byte, train
from twins import byte_softmax_network, next_byte_loss

from bit_transformer import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from bit_transformer.data.dataset import Dataset, open_dataset
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.callbacks.base import Callback, RunningTrainer, StepRecord

WINDOW, BATCH, LAYERS = 128, 16, 4
MEMORY_BITS = (16, 24, 32, 48)
RUNS = RESULTS / "twins-runs.jsonl"
SOFTMAX, LEAVES = "byte softmax", "bit tree with leaves"
ARMS = ("bit tree", LEAVES, SOFTMAX)
MATRIX_RATES, EMBEDDING_RATES = (0.01, 0.02, 0.04), (0.01, 0.02, 0.04)
DEFAULT_RATE = 0.02
TUNING_SEED = 100
CURVE_BYTES, CURVE_POINTS = 1 << 15, 10


@dataclass(frozen=True)
class Cell:
    """One training."""

    kind: str
    arm: str
    width: int
    memory: bool
    steps: int
    lr: float
    embedding_lr: float
    seed: int

    def config(self) -> ModelConfig:
        """Return the configuration. All arms have the same trunk."""
        return ModelConfig(
            d_model=self.width,
            nhead=max(2, self.width // 32),
            num_layers=LAYERS,
            dim_feedforward=4 * self.width,
            max_seq_len=8 * WINDOW,
            memory_bits=MEMORY_BITS if self.memory else (),
            memory_dropout=0.5 if self.memory else 0.0,
            leaf_logits=self.arm == LEAVES,
        )


Runs = dict[Cell, dict[str, Any]]


class Curve(Callback):
    """Validation bits per byte at steps that grow geometrically, and the seconds until then."""

    def __init__(self, held_out: np.ndarray, softmax: bool, steps: int) -> None:
        self._held_out, self._softmax = held_out, softmax
        ratio = steps ** (1 / CURVE_POINTS)
        self._at = {round(ratio**point) for point in range(3, CURVE_POINTS + 1)}
        self._evaluating, self._began = 0.0, time.process_time()
        self.points: list[tuple[int, float, float]] = []

    @property
    def seconds(self) -> float:
        """Processor time of training until now."""
        return time.process_time() - self._began - self._evaluating

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        if record.step not in self._at:
            return
        seconds, began = self.seconds, time.process_time()
        trainer.network.eval()
        found = _quality(trainer.network, self._held_out, softmax=self._softmax)
        trainer.network.train()
        self._evaluating += time.process_time() - began
        self.points.append((record.step, seconds, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=[], metavar="KIND=FILE")
    parser.add_argument("--steps", type=int, nargs="+", default=[150, 1200, 5000])
    parser.add_argument("--widths", type=int, nargs="+", default=[64])
    parser.add_argument("--memory", choices=("with", "without", "both"), default="with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tuning-steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--report", action="store_true", help="write the result of all runs so far")
    arguments = parser.parse_args()
    for argument in arguments.data:
        kind, file = argument.split("=", 1)
        path = Path(file)
        for width in arguments.widths:
            for memory in {"with": [True], "without": [False], "both": [True, False]}[
                arguments.memory
            ]:
                _compare(kind, path, width, memory, arguments)
    if arguments.report:
        _report()


def _compare(
    kind: str, path: Path, width: int, memory: bool, arguments: argparse.Namespace
) -> None:
    """Tune all arms and run what is missing."""
    rates = DEFAULT_RATE, DEFAULT_RATE
    start = [
        Cell(kind, arm, width, memory, arguments.tuning_steps, *rates, TUNING_SEED) for arm in ARMS
    ]
    chosen = {cell.arm: _tuned(cell, path, arguments.jobs) for cell in start}
    wanted = [
        replace(chosen[arm], steps=steps, seed=seed)
        for steps in sorted(arguments.steps)
        for seed in range(arguments.seeds)
        for arm in ARMS
    ]
    _run_missing(wanted, path, arguments.jobs)


def _tuned(cell: Cell, path: Path, jobs: int) -> Cell:
    """Return the cell with the rates of the lowest validation loss."""
    cell = _best([replace(cell, lr=rate) for rate in MATRIX_RATES], path, jobs)
    return _best([replace(cell, embedding_lr=rate) for rate in EMBEDDING_RATES], path, jobs)


def _best(cells: list[Cell], path: Path, jobs: int) -> Cell:
    """Run cells and return the one with the lowest validation loss."""
    _run_missing(cells, path, jobs)
    runs = finished()
    return min(cells, key=lambda cell: float(runs[cell]["validation"]))


def _run_missing(cells: Iterable[Cell], path: Path, jobs: int) -> None:
    done = finished()
    missing = [(cell, path) for cell in cells if cell not in done]
    if jobs == 1 or len(missing) < 2:
        for task in missing:
            _run(task)
        return
    # The children train with one thread each, and torch's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.map(_run, missing, chunksize=1)


def _run(task: tuple[Cell, Path]) -> None:
    """Train one network and append its line."""
    cell, path = task
    torch.set_num_threads(1)
    softmax = cell.arm == SOFTMAX
    dataset, validation, test = opened(path)
    torch.manual_seed(cell.seed)
    config = cell.config()
    network = byte_softmax_network(config) if softmax else BitTransformer(config)
    optimizer = OptimizerConfig(lr=cell.lr, embedding_lr=cell.embedding_lr)
    settings = TrainConfig(
        steps=cell.steps, batch_size=BATCH, seed=cell.seed, warmup=0.05, decay=0.8
    )
    curve = Curve(validation[:CURVE_BYTES], softmax, cell.steps)
    objective = LossAlone(next_byte_loss if softmax else next_bit_loss)
    train(network, dataset, settings, optimizer, objective=objective, name=str(cell), also=[curve])
    line = dataclasses.asdict(cell) | {
        "validation": _quality(network, validation, softmax=softmax),
        "test": _quality(network, test, softmax=softmax),
        "seconds": curve.points[-1][1],
        "curve": curve.points,
        "data_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    # One write of one line: processes that append at once do not mix their lines.
    with RUNS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{cell}: {line['test']:.4f} in {line['seconds']:.0f} s", flush=True)


def opened(path: Path) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return a file split for training, and its bytes for validation and for the report."""
    config = DataConfig((str(path),), held_out_fraction=0.2, held_out_layout="spread")
    dataset = open_dataset(config, window_bytes=WINDOW, spool=path.parent)
    regions = list(dataset.held_out_bytes())
    return dataset, np.concatenate(regions[::2]), np.concatenate(regions[1::2])


@torch.no_grad()
def _quality(network: BitTransformer, held_out: np.ndarray, *, softmax: bool) -> float:
    if softmax:
        return cold_bits_per_byte(network, held_out, WINDOW, loss=next_byte_loss)
    return cold_bits_per_byte(network, held_out, WINDOW)


def finished() -> Runs:
    """Return what the file of runs holds."""
    if not RUNS.exists():
        return {}
    names = [field.name for field in dataclasses.fields(Cell)]
    lines = [json.loads(line) for line in RUNS.read_text().splitlines()]
    return {Cell(*(line[name] for name in names)): line for line in lines}


def _report() -> None:
    runs = finished()
    groups: dict[tuple[Any, ...], dict[str, list[Cell]]] = {}
    for cell in runs:
        if cell.seed != TUNING_SEED:
            key = (cell.kind, cell.width, cell.memory, cell.steps)
            groups.setdefault(key, {arm: [] for arm in ARMS})[cell.arm].append(cell)
    rows = [row for key, arms in sorted(groups.items()) for row in _rows(key, arms, runs)]
    write_result(
        "twins",
        summary="Held-out bits per byte of bit trees and of a byte softmax on the same trunk, "
        f"{BATCH} windows of {WINDOW} bytes a step, rates tuned for each: mean over seeds and "
        "standard error. Time is processor time of one thread.",
        columns=[
            "kind of data, width, context memory, steps: head",
            "bits/byte",
            "error",
            "seeds",
            "relative to the softmax",
            "time",
            "rates of matrices and embeddings",
        ],
        rows=rows,
        details={"files": {cell.kind: runs[cell]["data_sha256"] for cell in runs}},
    )
    _draw(groups, runs)


def _rows(key: tuple[Any, ...], arms: dict[str, list[Cell]], runs: Runs) -> list[list[Any]]:
    """Return a row for each head that has finished runs, if the softmax has."""
    kind, width, memory, steps = key
    if not arms[SOFTMAX]:
        return []
    quality = {arm: [runs[cell]["test"] for cell in cells] for arm, cells in arms.items() if cells}
    seconds = {arm: np.mean([runs[cell]["seconds"] for cell in arms[arm]]) for arm in quality}
    name = f"{kind}, {width}, {'memory' if memory else 'no memory'}, {steps:,} steps"
    return [
        [
            f"{name}: {arm}",
            float(np.mean(found)),
            _standard_error(found),
            len(found),
            float(np.mean(found) / np.mean(quality[SOFTMAX])),
            float(seconds[arm] / seconds[SOFTMAX]),
            f"{arms[arm][0].lr:g}, {arms[arm][0].embedding_lr:g}",
        ]
        for arm, found in quality.items()
    ]


def _standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _draw(groups: dict[tuple[Any, ...], dict[str, list[Cell]]], runs: Runs) -> None:
    """Draw validation bits per byte over steps and over seconds, for the longest runs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    longest = {key[:3]: key for key in sorted(groups)}
    figure, axes = pyplot.subplots(2, len(longest), figsize=(3.2 * len(longest), 6), squeeze=False)
    for column, key in enumerate(longest.values()):
        for arm in ARMS:
            curves = np.array([runs[cell]["curve"] for cell in groups[key][arm]])
            if not curves.size:
                continue
            mean, spread = curves.mean(0), curves.std(0)
            for row in (0, 1):
                axes[row, column].errorbar(
                    mean[:, row], mean[:, 2], spread[:, 2], label=arm, capsize=2
                )
        axes[0, column].set_title(f"{key[0]}, width {key[1]}" + (", memory" if key[2] else ""))
        for row, label in ((0, "steps"), (1, "processor seconds")):
            axes[row, column].set(xscale="log", yscale="log", xlabel=label)
            axes[row, column].yaxis.set_major_formatter(ticker.ScalarFormatter())
            axes[row, column].yaxis.set_minor_formatter(ticker.ScalarFormatter())
    axes[0, 0].set_ylabel("validation bits per byte")
    axes[1, 0].set_ylabel("validation bits per byte")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(RESULTS.parents[1] / "docs" / "twins.png", dpi=110)


if __name__ == "__main__":
    main()
