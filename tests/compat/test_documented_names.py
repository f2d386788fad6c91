"""Every documented name of the earlier system that exists by now, once, doing what was promised."""

import numpy as np
import pytest
import torch

import bit_transformer
from bit_transformer import (
    BitTransformerLM,
    adjust_learning_rate,
    bits_to_text,
    compress_bits,
    configure_optimizer,
    cosine_ramp,
    decompress_bits,
    enforce_parity,
    model_output_decompress,
    pack_bits,
    text_to_bits,
    unpack_bits,
)
from bit_transformer.torch_utils import cpu_autocast
from bit_transformer.utils import load_model, save_model, set_dropout

SIZES = {"d_model": 32, "nhead": 4, "num_layers": 2, "dim_feedforward": 64, "max_seq_len": 256}


def test_the_model_returns_logits_and_telemetry():
    model = BitTransformerLM(**SIZES)
    logits, telemetry = model(torch.randint(0, 2, (2, 64)))
    assert logits.shape == (2, 64, 2)
    assert telemetry["negentropy_logits"].shape == (2,)
    assert telemetry["negentropy_logits"].abs().max() < 1e-6


def test_text_travels_as_nine_bits_a_byte():
    bits = text_to_bits("hé")
    assert len(bits) == 27
    assert bits_to_text(bits) == "hé"
    assert len(text_to_bits("hé", parity=False)) == 24
    bits[8] ^= 1
    fixed, corrected = enforce_parity(bits)
    assert corrected == 1
    assert bits_to_text(fixed) == "hé"


def test_bits_are_packed_and_run_length_coded():
    bits = np.array([1] * 300 + [0] * 7, dtype=np.uint8)
    stream = compress_bits(bits)
    assert stream.tolist() == [1, 255, 1, 45, 0, 7]
    assert np.array_equal(decompress_bits(stream), bits)
    assert np.array_equal(model_output_decompress([stream])[0], bits)
    assert np.array_equal(unpack_bits(pack_bits(bits), len(bits)), bits)


def test_training_helpers():
    optimizer, schedule = configure_optimizer(
        BitTransformerLM(**SIZES), lr=1e-3, weight_decay=0.01, total_steps=100
    )
    assert 0 < schedule(0) < 1
    assert adjust_learning_rate(optimizer, 0.5) == pytest.approx(5e-4)
    assert cosine_ramp(50, 0.0, 1.0, 100) == pytest.approx(0.5)


def test_shims(tmp_path):
    model = BitTransformerLM(**SIZES)
    set_dropout(model, 0.1)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    bits = torch.randint(0, 2, (1, 32))
    assert torch.equal(loaded(bits)[0], model.eval()(bits)[0])
    with cpu_autocast():
        assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == torch.bfloat16


def test_every_public_name_exists():
    assert all(hasattr(bit_transformer, name) for name in bit_transformer.__all__)
