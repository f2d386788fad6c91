"""Compare training and cached decoding with the GPT-2 class of transformers in the same shape.

    python benchmarks/bench_speed.py

Both are plain PyTorch in float32 with a byte vocabulary. The sides take turns and the best round
of each counts, so that the ratio holds on a busy machine. Training is a whole step: loss,
gradients, clipping, optimizer. Decoding is one sequence at temperature 1 through the entry point of
each library.
"""

import argparse
from collections.abc import Callable

import torch
from report import write_result
from timing import best_seconds
from transformers import GPT2Config, GPT2LMHeadModel

from bit_transformer import ModelConfig, OptimizerConfig, SamplingConfig
from bit_transformer.inference.generate import generate_bits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.optimizer import build_optimizer, gradient_norm

WINDOW, BATCH, NEW_BYTES = 256, 16, 128
SHAPES = [(128, 4, 6), (256, 4, 6), (384, 6, 6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for width, heads, layers in SHAPES:
        ours, theirs = _networks(width, heads, layers)
        label = f"{layers} layers, {width} wide"
        for optimizer in ("adamw", "muon"):
            sides = _training(ours, optimizer), _training_gpt2(theirs)
            rows.append(
                [
                    f"training, {label}, {optimizer}",
                    *_compare(*sides, BATCH * WINDOW, arguments.rounds),
                ]
            )
        sides = _decoding(ours), _decoding_gpt2(theirs)
        rows.append([f"decoding, {label}", *_compare(*sides, NEW_BYTES, arguments.rounds)])
        print(rows[-3:], flush=True)
    write_result(
        "speed",
        summary="Bytes per second beside the GPT-2 class of transformers; ours has context memory.",
        columns=["work", "ours, bytes/s", "GPT-2, bytes/s", "ours / GPT-2"],
        rows=rows,
        details={"window": WINDOW, "batch": BATCH, "new_bytes": NEW_BYTES},
    )


def _networks(width: int, heads: int, layers: int) -> tuple[BitTransformer, GPT2LMHeadModel]:
    torch.manual_seed(0)
    config = ModelConfig(
        d_model=width,
        nhead=heads,
        num_layers=layers,
        dim_feedforward=4 * width,
        max_seq_len=8 * WINDOW,
    )
    rival = GPT2Config(
        vocab_size=256,
        n_positions=WINDOW,
        n_embd=width,
        n_head=heads,
        n_layer=layers,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=None,
    )
    return BitTransformer(config), GPT2LMHeadModel(rival)


def _training(network: BitTransformer, name: str) -> Callable[[], object]:
    optimizer = build_optimizer(network, OptimizerConfig(optimizer=name))  # type: ignore[arg-type]
    bits = torch.randint(0, 2, (BATCH, 8 * WINDOW), dtype=torch.uint8)

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        next_bit_loss(network, bits).backward()
        gradient_norm(optimizer.dense_parameters(), 1.0)
        optimizer.step()

    return step


def _training_gpt2(model: GPT2LMHeadModel) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, 256, (BATCH, WINDOW))

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _decoding(network: BitTransformer) -> Callable[[], object]:
    nothing = torch.zeros(1, 0, dtype=torch.uint8)

    def decode() -> None:
        network.eval()
        generate_bits(network, nothing, 8 * NEW_BYTES, SamplingConfig(), torch.Generator())

    return decode


def _decoding_gpt2(model: GPT2LMHeadModel) -> Callable[[], object]:
    start = torch.zeros(1, 1, dtype=torch.long)

    def decode() -> None:
        model.eval()
        model.generate(  # type: ignore[misc]
            start, max_new_tokens=NEW_BYTES, do_sample=True, top_k=0, pad_token_id=0
        )

    return decode


def _compare(
    ours: Callable[[], object], theirs: Callable[[], object], data_bytes: int, rounds: int
) -> tuple[float, float, float]:
    """Bytes per second of both sides in their best rounds, and the ratio of the two."""
    best = best_seconds({"ours": ours, "theirs": theirs}, rounds)
    return data_bytes / best["ours"], data_bytes / best["theirs"], best["theirs"] / best["ours"]


if __name__ == "__main__":
    main()
