"""16-bit and 64-bit models work in every public function, or raise a clear error."""

import pytest
import torch

from bit_transformer import (
    Predictor,
    TrainConfig,
    decode,
    encode,
    fit,
    hil_safe_inference,
    infer_long_sequence,
    infer_text,
    prepare_qat_fx,
    quantize_dynamic,
    safe_sample_with_retry,
    watch,
)
from bit_transformer.errors import UnsupportedCombination
from bit_transformer.inference.sampling_config import SamplingConfig
from tests.builders import tiny_model

BITS = torch.randint(0, 2, (1, 64), generator=torch.Generator().manual_seed(0))
WORK = {
    "forward": lambda model: dict(model(BITS)[1]),
    "log2_likelihood": lambda model: model.log2_likelihood(BITS).sum().backward(),
    "generate": lambda model: model.generate(BITS, 16),
    "generate a batch": lambda model: model.generate(BITS.expand(2, -1), 16, temperature=0.5),
    "sample": lambda model: model.sample(b"ab", 3, stop=b"c"),
    "stream": lambda model: list(model.stream(BITS, 16)),
    "score": lambda model: model.score(b"hello").bits_per_byte,
    "watch": lambda model: [
        one.alternatives() for one in watch(model.network, BITS, 16, SamplingConfig())
    ],
    "predictor": lambda model: Predictor(model.network).read(BITS),
    "hil_safe_inference": lambda model: hil_safe_inference(model, BITS, strict=False),
    "safe_sample_with_retry": lambda model: safe_sample_with_retry(model, BITS, 32),
    "infer_text": lambda model: infer_text(model, "ab", 4),
    "infer_long_sequence": lambda model: infer_long_sequence(model, BITS[0]),
    "encode": lambda model: decode(model, encode(model, b"hello")),
}
REFUSED = {
    "fit": lambda model: fit(model, b"hello", TrainConfig(steps=1)),
    "quantize_dynamic": quantize_dynamic,
    "prepare_qat_fx": prepare_qat_fx,
}
DTYPES = [torch.float16, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", ["plain", "reversible", "halting"])
@pytest.mark.parametrize("name", WORK)
def test_works(name, stack, dtype):
    WORK[name](tiny_model(stack=stack).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_a_remedy(name, dtype):
    with pytest.raises(UnsupportedCombination, match=r"call model\.float\(\) first"):
        REFUSED[name](tiny_model().to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_equals_that_of_32_bits_up_to_rounding(dtype):
    exact = tiny_model().log2_likelihood(BITS)
    found = tiny_model().to(dtype).log2_likelihood(BITS)
    assert (found.float() - exact).abs().max() < 0.35
