"""Measure training steps per second on a quiet machine and beside one and four busy processes.

    python benchmarks/bench_contention.py

OpenMP reads its settings when it is loaded, so each figure comes from a process of its own. The
same model, data and float32 arithmetic run with several numbers of threads and ways of waiting. The
GPT-2 class of transformers, in the same shape, runs under the same conditions. The busy processes
spin in a loop. Under each condition all settings take turns, and the best round counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BATCH, WINDOW, WIDTH, HEADS, LAYERS = 8, 256, 128, 4, 6
SETTINGS = {
    "OpenMP's own": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 10,000 times": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = (0, 1, 4)
_VARIABLES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="time of each process after its warm-up"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", choices=("ours", "gpt2"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_steps_per_second(arguments.worker, arguments.seconds)))
        return
    rows = [
        [f"{busy} busy, {name}", *_best(busy, settings, arguments.seconds, arguments.rounds)]
        for busy in BUSY
        for name, settings in SETTINGS.items()
    ]
    _write(rows)


def _write(rows: list[list[object]]) -> None:
    from report import write_result

    write_result(
        "contention",
        summary="Training steps per second, 6 layers, 128 wide, 8 windows of 256 bytes, float32.",
        columns=["condition, threads", "ours, steps/s", "GPT-2, steps/s", "ours / GPT-2"],
        rows=rows,
        details={"batch": BATCH, "window": WINDOW},
    )


def _best(
    busy: int, settings: dict[str, str], seconds: float, rounds: int
) -> tuple[float, float, float]:
    """Steps per second of both sides in their best rounds, and the ratio of the two."""
    with _busy_processes(busy):
        turns = [
            (_in_process("ours", settings, seconds), _in_process("gpt2", settings, seconds))
            for _ in range(rounds)
        ]
    ours, theirs = (max(side) for side in zip(*turns, strict=True))
    print(f"{busy} busy, {settings}: {ours:.2f} and {theirs:.2f} steps/s", flush=True)
    return ours, theirs, ours / theirs


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    # A loop ends once its parent is gone, even if this process is killed.
    loop = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    words = [sys.executable, "-c", loop]
    processes = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _in_process(side: str, settings: dict[str, str], seconds: float) -> float:
    environment = {key: value for key, value in os.environ.items() if key not in _VARIABLES}
    words = [sys.executable, __file__, "--worker", side, "--seconds", str(seconds)]
    done = subprocess.run(
        words, env=environment | settings, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def _steps_per_second(side: str, seconds: float) -> float:
    step = _our_step() if side == "ours" else _gpt2_step()
    for _ in range(3):
        step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    return steps / (time.perf_counter() - began)


def _our_step() -> Callable[[], object]:
    import torch

    from bit_transformer import ModelConfig, OptimizerConfig
    from bit_transformer.model.transformer import BitTransformer
    from bit_transformer.objectives.causal import next_bit_loss
    from bit_transformer.training.optimizer import build_optimizer

    torch.manual_seed(0)
    config = ModelConfig(
        d_model=WIDTH,
        nhead=HEADS,
        num_layers=LAYERS,
        dim_feedforward=4 * WIDTH,
        max_seq_len=8 * WINDOW,
    )
    network = BitTransformer(config).train()
    optimizer = build_optimizer(network, OptimizerConfig())
    bits = torch.randint(0, 2, (BATCH, 8 * WINDOW), dtype=torch.uint8)

    def step() -> None:
        optimizer.zero_grad()
        next_bit_loss(network, bits).backward()
        optimizer.step()

    return step


def _gpt2_step() -> Callable[[], object]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256,
        n_positions=WINDOW,
        n_embd=WIDTH,
        n_head=HEADS,
        n_layer=LAYERS,
        bos_token_id=0,
        eos_token_id=None,
    )
    network = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, 256, (BATCH, WINDOW))

    def step() -> None:
        optimizer.zero_grad()
        network(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
