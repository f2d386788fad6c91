"""Mix a small network with the context mixer bit by bit, and compare with a byte softmax alone.

    python benchmarks/bench_mixing.py --data english=bible.txt log=dpkg.log --like code
    python benchmarks/bench_mixing.py --data english=bible.txt --samples

The networks are those of bench_twins.py, with the rates that it chose, and are trained here once
more. All figures are bits per byte of the same held-out bytes. Static figures are those of fixed
weights. Adaptive ones come from something that learns from each byte after the byte is scored, and
so has learned from the beginning of the held-out bytes. Warm means that the mixer has learned the
training bytes first. Times are processor time of one thread per scored byte, relative to the static
score of the network.

--samples compares generated text with and without the mixer: the share that the gate passes, and
bits per byte under an independent model, which is a context mixer that has learned the training
bytes.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_twins import LEAVES, SOFTMAX, WINDOW, Cell, finished, opened
from report import write_result
from training import LossAlone, train
from twins import byte_softmax_network, next_byte_loss

from bit_transformer import OptimizerConfig, SamplingConfig, TrainConfig
from bit_transformer.compression.mixed_network import mixed
from bit_transformer.compression.mixer import Mixer, new_mixer
from bit_transformer.inference.dynamic_evaluation import adaptive_surprisal
from bit_transformer.inference.generate import stream_bits
from bit_transformer.inference.predictor import Source, log2_likelihood
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.score import Surprisals, score_bytes
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.safety.calibration import calibrate_gate, gate_windows
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import guarded_stream

BATCH, TABLE_BITS = 16, 22
GIVEN_BYTES = 1 << 20
"""A warm mixer learns at most this much, the last training bytes."""
OVERLAP = WINDOW // 2
SAMPLES, SAMPLE_BYTES = 60, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, metavar="KIND=FILE")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--samples", action="store_true", help="compare generated text instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[Any]] = []
    for argument in arguments.data:
        kind, file = argument.split("=", 1)
        measure = _sampled if arguments.samples else _scored
        rows += measure(kind, Path(file), arguments.width, arguments.steps)
    (_write_samples if arguments.samples else _write_scores)(rows, arguments.steps)


def _write_scores(rows: list[list[Any]], steps: int) -> None:
    write_result(
        "mixing",
        summary=f"Held-out bits per byte after {steps:,} steps, in windows of {WINDOW} bytes with "
        f"at least {OVERLAP} bytes of context, and the time of a scored byte.",
        columns=[
            "kind of data: method",
            "kind of figure",
            "bits/byte",
            "relative to the softmax",
            "time of a byte",
            "microseconds",
        ],
        rows=rows,
        details={},
    )


def _write_samples(rows: list[list[Any]], steps: int) -> None:
    write_result(
        "mixing-samples",
        summary=f"{SAMPLES} samples of {SAMPLE_BYTES} bytes after {WINDOW // 2} held-out bytes, "
        f"from networks of {steps:,} steps: the share that the network's gate passes whole, and "
        "bits per byte under a context mixer that has learned the training bytes.",
        columns=["kind of data: source", "temperature", "passed", "bits/byte, independent"],
        rows=rows,
        details={},
    )


def _scored(kind: str, path: Path, width: int, steps: int) -> list[list[Any]]:
    arms = LEAVES, SOFTMAX
    tree, softmax = (_trained(_chosen(kind, arm, width, steps), path) for arm in arms)
    _, held_out, given = _bytes_of(path)
    sample = held_out.tobytes()
    rate = _softmax_bits(softmax, held_out)
    cold = mixed(tree, sample=sample, table_bits=TABLE_BITS)
    warm = mixed(tree, given=given, table_bits=TABLE_BITS)
    functions: dict[str, Callable[..., Iterable[Surprisals]]] = {
        "network and mixer": cold.surprisal,
        "network and warm mixer": warm.surprisal,
        "network, learning head": partial(adaptive_surprisal, tree),
        "network, learning head and memory": partial(adaptive_surprisal, tree, learns="memory"),
    }
    rows, static_seconds = [], _static_seconds(tree, held_out)
    rows.append([f"{kind}: byte softmax", "static", rate, 1.0, None, None])
    for name, function in functions.items():
        surprisals = partial(function, window_bytes=WINDOW, overlap_bytes=OVERLAP)
        list(surprisals([held_out[: 4 * WINDOW]]))  # compiles
        began = time.process_time()
        found = list(surprisals([held_out]))
        seconds = time.process_time() - began
        static, adaptive = (float(np.concatenate(part).mean()) for part in zip(*found, strict=True))
        if len(rows) == 1:
            rows.append(
                [
                    f"{kind}: bit tree with leaves",
                    "static",
                    static,
                    static / rate,
                    1.0,
                    1e6 * static_seconds / len(held_out),
                ]
            )
        rows.append(
            [
                f"{kind}: {name}",
                "adaptive",
                adaptive,
                adaptive / rate,
                seconds / static_seconds,
                1e6 * seconds / len(held_out),
            ]
        )
    alone = _mixer_alone(held_out, given)
    rows.append([f"{kind}: warm mixer alone", "adaptive", alone, alone / rate, None, None])
    for row in rows:
        print(row, flush=True)
    return rows


def _chosen(kind: str, arm: str, width: int, steps: int) -> Cell:
    """Return the run of bench_twins.py with the rates that were chosen for it."""
    for cell in finished():
        if (cell.kind, cell.arm, cell.width, cell.steps, cell.seed, cell.memory) == (
            kind,
            arm,
            width,
            steps,
            0,
            True,
        ):
            return cell
    raise SystemExit(
        f"bench_twins.py has no run of {arm} on {kind}, {width} wide, {steps} steps; run it first"
    )


def _trained(cell: Cell, path: Path) -> BitTransformer:
    softmax = cell.arm == SOFTMAX
    torch.manual_seed(cell.seed)
    config = cell.config()
    network = byte_softmax_network(config) if softmax else BitTransformer(config)
    train(
        network,
        opened(path)[0],
        TrainConfig(steps=cell.steps, batch_size=BATCH, seed=cell.seed, warmup=0.05, decay=0.8),
        OptimizerConfig(lr=cell.lr, embedding_lr=cell.embedding_lr),
        objective=LossAlone(next_byte_loss if softmax else next_bit_loss),
        name=str(cell),
    )
    return network


def _bytes_of(path: Path) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Return validation bytes, reported bytes, and the last of the training bytes."""
    dataset, validation, held_out = opened(path)
    parts = [dataset.corpus.read(region.start, region.size) for region in dataset.split.train]
    return validation, held_out, np.concatenate(parts)[-GIVEN_BYTES:].tobytes()


@torch.no_grad()
def _softmax_bits(network: BitTransformer, held_out: np.ndarray) -> float:
    """Return bits per byte in the windows of `score`: only the first one has no context."""
    nats = 0.0
    starts = range(0, len(held_out) - OVERLAP, OVERLAP)
    for start in starts:
        window = torch.from_numpy(held_out[start : start + WINDOW].astype(np.int64))[None]
        logits = network(window[:, :-1])
        losses = torch.nn.functional.cross_entropy(logits[0], window[0], reduction="none")
        nats += float(losses[OVERLAP if start else 0 :].sum())
    return nats / float(np.log(2)) / len(held_out)


def _static_seconds(network: BitTransformer, held_out: np.ndarray) -> float:
    score_bytes(network, held_out[: 4 * WINDOW], window_bytes=WINDOW, overlap_bytes=OVERLAP)
    began = time.process_time()
    score_bytes(network, held_out, window_bytes=WINDOW, overlap_bytes=OVERLAP)
    return time.process_time() - began


def _mixer_alone(held_out: np.ndarray, given: bytes) -> float:
    """Return the bits per byte of a mixer without a network that has learned `given`."""
    dictionary = np.frombuffer(given, np.uint8)
    mixer = new_mixer(dictionary, table_bits=TABLE_BITS, network=False)
    mixer.learn(dictionary)
    bits = np.unpackbits(held_out)
    return _code_length(mixer.read(bits), bits) / len(held_out)


def _code_length(log_odds: np.ndarray, bits: np.ndarray) -> float:
    found = log2_likelihood(torch.from_numpy(log_odds)[None], torch.from_numpy(bits)[None])
    return -float(found.double().sum())


def _sampled(kind: str, path: Path, width: int, steps: int) -> list[list[Any]]:
    network = _trained(_chosen(kind, LEAVES, width, steps), path)
    validation, held_out, given = _bytes_of(path)
    gate = calibrate_gate(network, gate_windows(network, [validation], 400))
    judge = new_mixer(np.frombuffer(given, np.uint8), table_bits=TABLE_BITS, network=False)
    judge.learn(np.frombuffer(given, np.uint8))
    rows = []
    sources: dict[str, Source] = {
        "network": network,
        "network and mixer": mixed(network, sample=held_out.tobytes(), table_bits=18),
        "network and warm mixer": mixed(network, given=given, table_bits=20),
    }
    for temperature in (1.0, 0.8):
        for name, source in sources.items():
            passed, length = _judged(source, held_out, temperature, gate, judge)
            rows.append([f"{kind}: {name}", temperature, passed, length])
            print(rows[-1], flush=True)
    return rows


def _judged(
    source: Source, held_out: np.ndarray, temperature: float, gate: SafetyGate, judge: Mixer
) -> tuple[float, float]:
    """Return the share of samples that the gate passes, and their bits per byte under `judge`."""
    half, passed, length = WINDOW // 2, 0, 0.0
    sampling = SamplingConfig(temperature=temperature)
    for seed, start in enumerate(np.linspace(0, len(held_out) - half, SAMPLES).astype(int)):
        prompt = np.unpackbits(held_out[start : start + half])
        bits = torch.from_numpy(prompt)[None]
        guarded = guarded_stream(source, bits, 8 * SAMPLE_BYTES, sampling, gate, seeded(seed))
        list(guarded)
        passed += guarded.verdict.passed
        drawn = stream_bits(source, bits, 8 * SAMPLE_BYTES, sampling, seeded(seed))
        new = np.concatenate([piece[0].numpy() for piece in drawn])
        reader = judge.copy()
        reader.read(prompt)
        length += _code_length(reader.read(new), new) / SAMPLE_BYTES
    return passed / SAMPLES, length / SAMPLES


if __name__ == "__main__":
    main()
