"""Measure whether torch.compile pays on this machine, for a training step and a decoded byte.

    python benchmarks/bench_compile.py

The sides take turns on one thread in float32, and the best round counts. Decoding compares the
forward pass of the network with a cache, eager and with compiled branches, and the compiled step
that the predictor uses by default.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from report import write_result
from timing import best_seconds

from bit_transformer import Predictor, preset
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss

_ROUNDS, _BYTES = 5, 32


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows: list[Sequence[Any]] = []
    for name in ("tiny", "small"):
        training = best_seconds(
            {kind: _training(name, kind) for kind in ("eager", "compiled")}, _ROUNDS
        )
        kinds = ("eager", "compiled", "native")
        decoding = best_seconds({kind: _decoding(name, kind) for kind in kinds}, _ROUNDS)
        for use, seconds in (("training step", training), ("decoded byte", decoding)):
            rows += [
                [f"{name}, {use}", kind, seconds["eager"] / taken]
                for kind, taken in seconds.items()
            ]
        print(rows[-5:], flush=True)
    write_result(
        "compile",
        summary="Speed relative to eager execution; `native` is the predictor's compiled step.",
        columns=["", "", "times eager"],
        rows=rows,
        details={},
    )


def _network(name: str, kind: str) -> BitTransformer:
    torch.manual_seed(0)
    network = BitTransformer(preset(name))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    if kind == "compiled":
        compile_branches(network)
    return network


def _training(name: str, kind: str) -> Callable[[], None]:
    network = _network(name, kind).train()
    bits = torch.randint(0, 2, (4, network.config.max_seq_len), dtype=torch.uint8)

    def step() -> None:
        next_bit_loss(network, bits).backward()  # type: ignore[no-untyped-call]

    return step


def _decoding(name: str, kind: str) -> Callable[[], None]:
    network = _network(name, kind).eval()
    patches = torch.randint(0, 256, (_BYTES, 1, 1))

    def decode() -> None:
        predictor = Predictor(network)
        if kind != "native":
            predictor._native_step = None
        for patch in patches:
            predictor.push(patch)

    return decode


if __name__ == "__main__":
    main()
