"""Estimate the memory of a training run."""

import dataclasses
from collections.abc import Sequence

from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.train import parse_settings
from bit_transformer.training.config import parse_bytes

_MEANINGS = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations of one micro-batch",
    "copies": "averaged weights and recovery states",
    "peak": "peak of a training step",
}


def run(words: Sequence[str]) -> None:
    """Run the command, which takes the flags of `train`."""
    arguments = parse_settings(words, command="memory")
    from bit_transformer.training.memory_estimate import (
        estimate_inference,
        estimate_training,
        fit_into_budget,
    )

    settings = fit_into_budget(arguments.run_config())
    training = dataclasses.asdict(estimate_training(settings))
    weights, cache = estimate_inference(settings.model)
    report = {
        **training,
        "inference": weights + cache,
        "cache": cache,
        "accumulate": settings.train.accumulate,
        "batch_size": settings.train.batch_size,
    }
    if arguments.json:
        print_json(report)
        return
    rows = [(meaning, _mib(training[name])) for name, meaning in _MEANINGS.items()]
    rows.append(("inference: weights and cache of one sequence", _mib(weights + cache)))
    train = settings.train
    title = f"Memory for {train.batch_size} windows per step in {train.accumulate} micro-batches"
    if train.memory_budget is not None:
        title += f", within {parse_bytes(train.memory_budget) / 2**20:,.0f} MiB"
    print_table(title, ("", "MiB"), rows)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f}"
