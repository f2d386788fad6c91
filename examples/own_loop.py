"""Train a model in your own loop on bytes in memory, without a data set or a run folder."""

from collections.abc import Callable

import torch
from torch import Tensor

from bit_transformer import BitTransformerLM, bytes_to_bits, configure_optimizer

TEXT = b"The gate opens at dawn, the lamps go out, and somebody sweeps the square. " * 200
WINDOW = 64


def batch(generator: torch.Generator, rows: int = 16) -> Tensor:
    """Draw random windows of the text as bits, (rows, 8 * WINDOW)."""
    starts = torch.randint(0, len(TEXT) - WINDOW, (rows,), generator=generator).tolist()
    windows = [bytes_to_bits(TEXT[start : start + WINDOW]) for start in starts]
    return torch.stack([torch.from_numpy(window) for window in windows])


def train(steps: int, update: Callable[[int], None], model: BitTransformerLM) -> float:
    """Minimise the surprisal. Return its mean over the last batch, in bits per byte."""
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        loss = -model.log2_likelihood(batch(generator)).mean()
        loss.backward()
        update(step)
    return 8 * loss.item()


def new_model() -> BitTransformerLM:
    """Return a small model whose initial weights are always the same."""
    torch.manual_seed(0)
    return BitTransformerLM(d_model=64, nhead=2, num_layers=2, dim_feedforward=128, max_seq_len=512)


def main(steps: int = 40) -> None:
    """Train twice, with two optimizers. This takes a few seconds on two cores."""
    # The optimizer of this project accepts the sparse gradients of the context memory.
    model = new_model()
    optimizer, schedule = configure_optimizer(model, total_steps=steps)

    def update_ours(step: int) -> None:
        optimizer.scale_rates(schedule(step))
        optimizer.step()
        optimizer.zero_grad()

    print(f"configure_optimizer: {train(steps, update_ours, model):.3f} bits per byte")

    # Most other optimizers need dense gradients, so make the context memory produce them.
    model = new_model()
    assert model.network.memory is not None
    model.network.memory.rows.sparse = False
    adamw = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def update_adamw(_: int) -> None:
        adamw.step()
        adamw.zero_grad()

    print(f"AdamW, dense memory: {train(steps, update_adamw, model):.3f} bits per byte")
    print(model.eval().sample(b"The gate", 40, stop=b".")[0].content.decode(errors="replace"))


if __name__ == "__main__":
    main()
