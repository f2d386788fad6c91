"""Train a small model on the licence of this repository, continue a prompt, score some bytes."""

from pathlib import Path

import torch

from bit_transformer import BitTransformerLM, TrainConfig, bits_to_bytes, bytes_to_bits, fit

LICENSE = Path(__file__).resolve().parent.parent / "LICENSE"


def main(steps: int = 150) -> None:
    """Run the example. It takes about half a minute on two cores."""
    torch.manual_seed(0)
    model = BitTransformerLM(
        d_model=128, nhead=2, num_layers=4, dim_feedforward=512, max_seq_len=1024
    )
    result = fit(model, LICENSE, TrainConfig(steps=steps, batch_size=8))
    print(f"held out: {result.held_out_bits_per_byte:.3f} bits per byte")

    prompt = torch.from_numpy(bytes_to_bits(b"You may "))[None]
    bits = model.generate(prompt, 8 * 120, temperature=0.8, valid_utf8=True)
    print(bits_to_bytes(bits[0].numpy()).decode())

    for text in (b"the terms of this License", b"qzx#~0Kv!)w;Jd%Yp^m2&1@r"):
        print(f"{model.score(text).bits_per_byte:.2f} bits per byte: {text.decode()}")


if __name__ == "__main__":
    main()
