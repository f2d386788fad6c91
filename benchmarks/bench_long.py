"""Measure chunked attention, endless generation, and quality by position in long contexts.

    python benchmarks/bench_long.py --data tinyshakespeare.txt

Cost: the time per bit of scoring one sequence, and of forward and backward pass over it with all
activations in memory. Passes are timed with the system's allocator, and again once the allocator
keeps freed memory instead of fetching fresh pages at each step. Lengths take turns, and the best
round counts. The peak memory of each length comes from a process of its own. Generation: resident
memory every 50,000 bytes while 1 MB is generated. Position: networks trained on windows of one
context read eight contexts in one go. The result is bits per byte of each eighth relative to cold
windows of one context.
"""

import argparse
import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import in_a_child, peak_above_now, resident
from report import write_result
from timing import best_seconds
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import ModelConfig, OptimizerConfig, Predictor, SamplingConfig, TrainConfig
from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.inference.generate import stream_bits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss

LENGTHS = (16_384, 65_536, 262_144)
_CHUNKS: dict[str, Any] = {"chunk_size": 2048, "overlap": 1024}
_ROUNDS = 3
_WINDOW = 128
_SHORT_CHUNKS: dict[str, Any] = {"chunk_size": 512, "overlap": 448}
_NOTE_EVERY = 50_000
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of `mallopt`, from malloc.h."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--generate", type=int, default=1_000_000, help="bytes to generate")
    parser.add_argument("--peak", type=int, metavar="BITS")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak_above_now(_passes(arguments.peak, _CHUNKS)))
        return
    if arguments.data is None:
        parser.error("the losses by position need text; name a file with --data")
    rows = [*_cost(), *_generation(arguments.generate), *_by_position(arguments)]
    write_result(
        "long",
        summary="Cost: chunks of 2,048 bits with an overlap of 1,024, 4 layers of width 128. "
        "Losses: chunks of 512 bits with an overlap of 448, context of 1,024 bits.",
        columns=["", "", "value", "relative"],
        rows=rows,
        details={},
    )


def _passes(bits: int, chunks: dict[str, Any]) -> Callable[[], None]:
    """Forward and backward pass over one sequence."""
    torch.manual_seed(0)
    network = BitTransformer(
        ModelConfig(num_layers=4, max_seq_len=bits, memory_slots=1 << 12, **chunks)
    )
    data = torch.randint(0, 2, (1, bits), dtype=torch.uint8)

    def run() -> None:
        next_bit_loss(network, data).backward()  # type: ignore[no-untyped-call]

    run()
    return run


def _scoring(bits: int) -> Callable[[], None]:
    torch.manual_seed(0)
    network = BitTransformer(ModelConfig(num_layers=4, memory_slots=1 << 12, **_CHUNKS)).eval()
    data = torch.randint(0, 2, (1, bits), dtype=torch.uint8)

    def run() -> None:
        Predictor(network).read(data)

    run()
    return run


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next request of this process."""
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, -1)


def _times(
    kind: str, make: Callable[[int], Callable[[], None]], lengths: Sequence[int] = LENGTHS
) -> list[Sequence[Any]]:
    seconds = best_seconds({bits: make(bits) for bits in lengths}, _ROUNDS)
    per_bit = {bits: taken / bits for bits, taken in seconds.items()}
    return [
        [f"microseconds per bit, {kind}", bits, 1e6 * taken, taken / per_bit[lengths[0]]]
        for bits, taken in per_bit.items()
    ]


def _cost() -> list[Sequence[Any]]:
    def chunks(bits: int) -> Callable[[], None]:
        return _passes(bits, _CHUNKS)

    rows = _times("scoring in chunks", _scoring)
    rows += _times("training in chunks", chunks)
    _keep_freed_memory()
    rows += _times("the same, memory kept", chunks)
    rows += _times("training, full attention", lambda bits: _passes(bits, {}), LENGTHS[:2])
    peaks = {bits: in_a_child(__file__, ["--peak", str(bits)]) for bits in LENGTHS}
    rows += [
        ["peak MiB, chunks, per 16,384 bits", bits, peak * LENGTHS[0] / bits, None]
        for bits, peak in peaks.items()
    ]
    return rows


def _generation(new_bytes: int) -> list[Sequence[Any]]:
    torch.manual_seed(0)
    network = BitTransformer(
        ModelConfig(num_layers=2, max_seq_len=2048, memory_slots=1 << 12, **_SHORT_CHUNKS)
    ).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    nothing = torch.zeros(1, 0, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    stream = stream_bits(network, nothing, 8 * new_bytes, SamplingConfig(), generator)
    for index, _ in enumerate(stream):
        if index % min(_NOTE_EVERY, new_bytes // 10) == 2000:
            sizes.append(resident())
    low, high = min(sizes), max(sizes)
    print(f"resident {low:.1f} to {high:.1f} MiB", flush=True)
    return [
        [f"resident MiB, generating {new_bytes:,} bytes, highest to lowest", "", high, high / low]
    ]


def _by_position(arguments: argparse.Namespace) -> list[Sequence[Any]]:
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    long = held_out[: len(held_out) // (8 * _WINDOW) * 8 * _WINDOW].reshape(-1, 8 * _WINDOW)
    rows: list[Sequence[Any]] = []
    variants: dict[str, dict[str, Any]] = {"chunks": _SHORT_CHUNKS, "full attention": {}}
    for name, chunks in variants.items():
        torch.manual_seed(0)
        network = BitTransformer(
            ModelConfig(
                max_seq_len=8 * _WINDOW,
                memory_bits=(16, 24, 32),
                memory_slots=1 << 14,
                **chunks,
            )
        )
        settings = TrainConfig(steps=arguments.steps, batch_size=8, device="cpu")
        train(network, dataset, settings, OptimizerConfig())
        network.eval()
        cold = cold_bits_per_byte(network, long.reshape(-1), _WINDOW)
        predictor = Predictor(network, len(long))
        found = -predictor.read(torch.from_numpy(unpack_bytes(long)))
        by_position = found.view(len(long), 8, -1).sum(-1).mean(0) / _WINDOW
        rows.append([f"bits per byte, {name}", "cold windows", cold, 1.0])
        rows += [
            [f"bits per byte, {name}", f"part {part + 1} of 8", float(value), float(value) / cold]
            for part, value in enumerate(by_position)
        ]
        print(rows[-9:], flush=True)
    return rows


if __name__ == "__main__":
    main()
