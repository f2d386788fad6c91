"""Measure what fewer bits per weight cost in quality and gain in speed and size.

    python benchmarks/bench_precision.py --data tinyshakespeare.txt

Loss: one network in float32, in bfloat16 autocast, in 8 bits and rounded to 4 bits, and another one
that was trained in 4 bits on the same steps, all on cold held-out windows. Decoding: the bytes of
one sequence are read one by one with random weights in the sizes of the presets. `network` is the
ordinary forward pass, the only one for bfloat16; `compiled` is the compiled decoding step. The
sides take turns, and the best round counts.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import write_result
from timing import best_seconds
from training import cold_bits_per_byte, hold_out_tenth, train

from bit_transformer import (
    BitTransformerLM,
    ModelConfig,
    OptimizerConfig,
    Predictor,
    TrainConfig,
    convert_qat_fx,
    cpu_autocast,
    prepare_qat_fx,
    preset,
    quantize_dynamic,
)
from bit_transformer.quantization import weight_bytes

_WINDOW = 128
_SIZES = ModelConfig(
    d_model=128,
    nhead=2,
    num_layers=6,
    dim_feedforward=512,
    max_seq_len=8 * _WINDOW,
    memory_bits=(16, 24, 32),
    memory_slots=1 << 14,
)
_PRESETS = ("tiny", "small", "medium")
_BYTES, _ROUNDS = 48, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [["decode " + name, *speeds] for name in _PRESETS for speeds in _decoding(name)]
    write_result(
        "precision",
        summary=f"Loss of a network of width 128 after {arguments.steps} steps. Decoding of one "
        f"sequence of {_BYTES} bytes on one thread.",
        columns=["", "weights", "bits per byte or bytes/s", "of float32", "MB of weights"],
        rows=[*_losses(arguments), *rows],
        details={},
    )


def _losses(arguments: argparse.Namespace) -> list[Sequence[Any]]:
    dataset = hold_out_tenth(arguments.data, _WINDOW)
    held_out = np.concatenate(list(dataset.held_out_bytes()))
    settings = TrainConfig(steps=arguments.steps, batch_size=8, device="cpu")

    def trained(prepare: Callable[[BitTransformerLM], BitTransformerLM]) -> BitTransformerLM:
        torch.manual_seed(0)
        model = prepare(BitTransformerLM.from_config(_SIZES))
        train(model.network, dataset, settings, OptimizerConfig())
        return model.eval()

    def loss(model: BitTransformerLM) -> float:
        return cold_bits_per_byte(model.network, held_out, _WINDOW)

    plain, in_4_bits = trained(lambda model: model), trained(prepare_qat_fx)
    of_float32 = loss(plain)
    with cpu_autocast():
        of_bf16 = loss(plain)
    plain_bytes = weight_bytes(plain)
    rows: list[Sequence[Any]] = [
        ["loss", "float32", of_float32, 1.0, plain_bytes / 1e6],
        ["loss", "bfloat16 autocast", of_bf16, of_bf16 / of_float32, plain_bytes / 1e6],
    ]
    copy = BitTransformerLM.from_config(_SIZES)
    copy.network.load_state_dict(plain.network.state_dict())
    for name, model in (
        ("int8", quantize_dynamic(plain)),
        ("int4, rounded after training", convert_qat_fx(prepare_qat_fx(copy))),
        ("int4, trained in 4 bits", convert_qat_fx(in_4_bits)),
    ):
        found = loss(model)
        rows.append(["loss", name, found, found / of_float32, weight_bytes(model) / 1e6])
        print(rows[-1], flush=True)
    return rows


def _decoding(name: str) -> list[list[Any]]:
    """Rows of format, bytes per second, speed relative to the float32 forward pass, and MB."""
    torch.manual_seed(0)
    model = BitTransformerLM.from_config(preset(name)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    smaller = quantize_dynamic(model)
    byte = torch.randint(0, 256, (_BYTES, 1, 1))

    def decode(model: BitTransformerLM, *, compiled: bool) -> Callable[[], None]:
        def run() -> None:
            predictor = Predictor(model.network)
            if not compiled:
                predictor._native_step = None
            for patch in byte:
                predictor.push(patch)

        return run

    def in_bf16() -> None:
        with cpu_autocast():
            decode(model, compiled=False)()

    runs = {
        "float32, network": decode(model, compiled=False),
        "bfloat16, network": in_bf16,
        "int8, network": decode(smaller, compiled=False),
        "float32, compiled": decode(model, compiled=True),
        "int8, compiled": decode(smaller, compiled=True),
    }
    best = best_seconds(runs, _ROUNDS)
    plain = best["float32, network"]
    found = [
        [key, _BYTES / seconds, plain / seconds, weight_bytes(_held(key, model, smaller)) / 1e6]
        for key, seconds in best.items()
    ]
    print(name, found, flush=True)
    return found


def _held(key: str, model: BitTransformerLM, smaller: BitTransformerLM) -> BitTransformerLM:
    return smaller if key.startswith("int8") else model


if __name__ == "__main__":
    main()
