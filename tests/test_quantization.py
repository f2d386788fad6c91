"""Tests of weights in 8 and 4 bits: errors, storage, training and refused cases."""

import importlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer import (
    BitTransformerLM,
    TrainConfig,
    convert_qat_fx,
    fit,
    prepare_qat_fx,
    quantize_dynamic,
)
from bit_transformer.errors import (
    CheckpointMismatchError,
    ConfigError,
    MissingExtraError,
    UnsupportedCombination,
)
from bit_transformer.inference.native_step import NativeStep
from bit_transformer.inference.predictor import Predictor
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.quantization import (
    Int4Linear,
    Int8Embedding,
    Int8Linear,
    _int8_products,
    apply_scheme,
    pack_nibbles,
    scheme_of,
    unpack_nibbles,
)
from tests.builders import STACKS, tiny_model

BITS = torch.randint(0, 2, (2, 160), generator=torch.Generator().manual_seed(2))


@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_an_int8_layer_is_within_its_bound(seed, width, size):
    generator = torch.Generator().manual_seed(seed)
    weight = size * torch.randn(5, width, dtype=torch.float64, generator=generator)
    x = torch.randn(3, 2, width, dtype=torch.float64, generator=generator)
    found, exact = Int8Linear(weight).eval()(x), x @ weight.t()
    of_x = x.abs().amax(-1, keepdim=True) / 127
    of_weight = weight.abs().amax(-1) / 127
    bound = (
        0.5 * of_x * weight.abs().sum(-1)
        + 0.5 * of_weight * x.abs().sum(-1, keepdim=True)
        + 0.25 * of_x * of_weight * width
    )
    assert ((found - exact).abs() <= bound * (1 + 1e-6)).all()


def test_zeros_stay_zeros_and_no_rows_are_no_rows():
    layer = Int8Linear(torch.zeros(4, 6)).eval()
    assert torch.equal(layer(torch.zeros(2, 6)), torch.zeros(2, 4))
    assert layer(torch.zeros(0, 6)).shape == (0, 4)


def test_without_the_integer_kernel_the_products_are_the_same():
    generator = torch.Generator().manual_seed(0)
    for width in (8, 1040, 1041, 4096):
        rows, weight = (
            torch.randint(-127, 128, (3, width), dtype=torch.int8, generator=generator)
            for _ in range(2)
        )
        expected = rows.long() @ weight.long().t()
        assert torch.equal(_int8_products(rows, weight).long(), expected)
        floats = _int8_products(rows.to("meta"), weight.to("meta"))
        assert floats.dtype == (torch.float32 if width <= 1040 else torch.float64)


def test_rows_of_a_table_are_off_by_half_a_scale():
    weight = torch.randn(50, 8) * torch.logspace(-6, 3, 50)[:, None]
    table = Int8Embedding(weight).eval()
    found = table(torch.arange(50))
    assert ((found - weight).abs() <= 0.51 * table.scale.float() + 1e-9).all()


@given(st.lists(st.lists(st.integers(-8, 7), min_size=6, max_size=6), min_size=1, max_size=5))
def test_nibbles_are_packed_and_unpacked(rows):
    weight = torch.tensor(rows, dtype=torch.int8)
    assert pack_nibbles(weight).shape == (len(rows), 3)
    assert torch.equal(unpack_nibbles(pack_nibbles(weight)), weight)


def test_a_model_in_8_bits_is_four_times_smaller_and_the_old_one_as_it_was():
    # As in a real model, the memory table and the matrices outweigh the embedding.
    model = tiny_model(d_model=64, dim_feedforward=256, memory_slots=1 << 13, memory_width=32)
    before = model.log2_likelihood(BITS)
    smaller = quantize_dynamic(model)
    sizes = [sum(t.nbytes for t in m.network.state_dict().values()) for m in (model, smaller)]
    assert sizes[0] / sizes[1] > 3.4
    assert torch.equal(model.log2_likelihood(BITS), before)
    assert (smaller.log2_likelihood(BITS) - before).abs().mean() < 0.05
    assert scheme_of(model) is None
    assert scheme_of(smaller) == "int8"


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_the_compiled_step_computes_what_the_modules_do(scheme, stack):
    model = tiny_model(stack=stack, d_model=32)
    model = quantize_dynamic(model) if scheme == "int8" else convert_qat_fx(prepare_qat_fx(model))
    bits = BITS[:1]
    assert NativeStep.supports(model.network)
    predictor = Predictor(model.network)
    by_step = torch.cat([predictor.read(bit) for bit in bits.split(8, dim=1)], dim=1)
    # A rounding error in the last place may move an input to the next of 255 values.
    assert (by_step - model.log2_likelihood(bits)).abs().mean() < (
        1e-2 if scheme == "int8" else 1e-5
    )


def test_what_was_trained_in_4_bits_is_what_is_converted():
    prepared = prepare_qat_fx(tiny_model(d_model=64, dim_feedforward=96)).eval()
    converted = convert_qat_fx(prepared)
    assert scheme_of(prepared) == "int4-qat"
    assert scheme_of(converted) == "int4"
    expected = prepared.log2_likelihood(BITS)
    torch.testing.assert_close(converted.log2_likelihood(BITS), expected, atol=1e-5, rtol=0)
    layer = converted.network.stack.blocks[0].feed_forward.down_proj
    assert isinstance(layer, Int4Linear)
    assert layer.packed.nbytes == 64 * 96 // 2


def test_a_prepared_model_learns():
    model = prepare_qat_fx(tiny_model()).train()
    optimizer = torch.optim.Adam([w for w in model.parameters() if w.ndim == 2][1:], lr=0.01)
    losses = []
    for _ in range(20):
        for weight in model.parameters():
            weight.grad = None
        loss = next_bit_loss(model.network, BITS)
        loss.backward()
        model.network.memory.rows.weight.grad = None
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("scheme", ["int8", "int4-qat", "int4"])
def test_files_hold_quantized_models(scheme, tmp_path):
    model = tiny_model()
    if scheme == "int8":
        model = quantize_dynamic(model)
    else:
        model = prepare_qat_fx(model)
        model = convert_qat_fx(model) if scheme == "int4" else model
    model.save_pretrained(tmp_path / "model")
    loaded = BitTransformerLM.from_pretrained(tmp_path / "model")
    assert scheme_of(loaded.network) == scheme
    assert torch.equal(loaded.log2_likelihood(BITS), model.eval().log2_likelihood(BITS))


def test_a_run_in_4_bits_is_saved_resumed_and_converted(tmp_path):
    settings = {"steps": 2, "batch_size": 2, "device": "cpu", "qat": True}
    data = bytes(range(256)) * 16
    result = fit(tiny_model(), data, TrainConfig(**settings), out=tmp_path / "run", progress=False)
    assert scheme_of(result.model) == "int4-qat"
    loaded = BitTransformerLM.from_pretrained(tmp_path / "run")
    assert torch.equal(loaded.log2_likelihood(BITS), result.model.log2_likelihood(BITS))
    assert scheme_of(convert_qat_fx(loaded)) == "int4"


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_integers_are_not_trained(scheme, tmp_path):
    model = tiny_model()
    model = quantize_dynamic(model) if scheme == "int8" else convert_qat_fx(prepare_qat_fx(model))
    with pytest.raises(UnsupportedCombination, match="then quantize, or train with --qat"):
        fit(model, b"x" * 5000, TrainConfig(steps=1), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(UnsupportedCombination, match="cannot be trained"):
        next_bit_loss(model.train().network, BITS)
    with pytest.raises(UnsupportedCombination, match=f"these weights are {scheme}"):
        quantize_dynamic(model)


def test_what_cannot_be_done_says_so(monkeypatch):
    with pytest.raises(UnsupportedCombination, match="prepare it with prepare_qat_fx"):
        convert_qat_fx(tiny_model())
    with pytest.raises(ConfigError, match="must be even, got 3"):
        Int4Linear(torch.zeros(2, 3, dtype=torch.int8), torch.ones(2, 1))
    with pytest.raises(CheckpointMismatchError, match="quantized as 'int2'"):
        apply_scheme(tiny_model().network, "int2")

    def missing(name):
        raise ImportError(name)

    from bit_transformer import quantization

    quantization._torchao.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"install 'bit-transformer\[qat\]"):
        prepare_qat_fx(tiny_model())


def test_no_library_speaks_while_a_model_is_put_into_four_bits(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    words = ["quantize", str(tmp_path / "model"), "--to", "int4", "--out", str(tmp_path / "small")]
    command = [sys.executable, "-m", "bit_transformer", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert ended.stderr == ""
