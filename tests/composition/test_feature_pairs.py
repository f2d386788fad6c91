"""Every pair of features matches its reference, or an error says what to do instead."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bit_transformer import SafetyGate, SamplingConfig, decode, encode, guarded_stream
from bit_transformer.errors import UsageError
from bit_transformer.inference.generate import stream_bits
from bit_transformer.objectives.build import OBJECTIVES, build_objective
from bit_transformer.objectives.config import ObjectiveConfig
from tests.builders import tiny_model
from tests.composition.features import (
    EXCLUSIVE,
    FEATURES,
    REFUSED,
    TRAINED,
    Feature,
    assert_equals_reference,
    assert_gradients_equal_reference,
    read_together,
    sample_bits,
)

_COMPILED_PAIRS = """
from tests.composition.features import *
for feature in FEATURES:
    assert_equals_reference(COMPILED, feature)
for feature in TRAINED:
    assert_gradients_equal_reference(COMPILED, feature)
"""


def _cases(features: list[Feature], together: int) -> list[Any]:
    """Return every set of this many features as a test case."""
    return [
        pytest.param(*chosen, id=" x ".join(feature.name for feature in chosen))
        for chosen in itertools.combinations(features, together)
    ]


@pytest.mark.parametrize(("first", "second"), _cases(FEATURES, 2))
def test_a_pair_equals_its_reference_or_is_refused(first, second):
    names = frozenset({first.name, second.name})
    if names in EXCLUSIVE:
        pytest.skip("two values of one setting")
    if names in REFUSED:
        with pytest.raises(UsageError, match=REFUSED[names]):
            read_together(first, second)
    else:
        assert_equals_reference(first, second)


@pytest.mark.parametrize(("first", "second"), _cases(TRAINED, 2))
def test_a_pair_has_the_gradients_of_its_reference(first, second):
    if frozenset({first.name, second.name}) in REFUSED:
        pytest.skip("refused, see above")
    assert_gradients_equal_reference(first, second)


@pytest.mark.slow
def test_every_feature_is_the_same_compiled():
    # The program runs in a separate process, because run-time type checks break compilation.
    root = Path(__file__).parents[2]
    program = [sys.executable, "-c", _COMPILED_PAIRS]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]


_VARIANTS = {
    "plain": {},
    "penalties": dict.fromkeys(("lambda_k", "lambda_c", "lambda_s"), 1.0)
    | dict.fromkeys(("floor_k", "floor_c", "floor_s"), 1.0),
    "run lengths": {"compress_prob": 0.5, "direct_prob": 0.5},
}
_BUILT = {
    f"{name}, {variant}": build_objective(ObjectiveConfig(name, **settings))
    for name in OBJECTIVES
    for variant, settings in _VARIANTS.items()
}


@pytest.mark.parametrize("objective", _BUILT)
@pytest.mark.parametrize("feature", _cases(FEATURES, 1))
def test_every_feature_trains(feature, objective):
    model = feature.swap(tiny_model(**feature.settings)).train()
    feature.apply(model)
    if feature.name == "int8":
        with pytest.raises(UsageError, match="train with --qat"):
            _BUILT[objective].loss(model.network, sample_bits(parity=False))
        return
    _BUILT[objective].loss(model.network, sample_bits(model.config.parity)).backward()
    gradients = [weight.grad for weight in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert all(
        g.coalesce().values().isfinite().all() if g.is_sparse else g.isfinite().all()
        for g in gradients
    )


@pytest.mark.parametrize("feature", _cases(FEATURES, 1))
def test_every_feature_generates_the_same_under_a_gate(feature):
    model = feature.swap(tiny_model(**feature.settings)).eval()
    feature.apply(model)
    arguments = (model.network, sample_bits(model.config.parity)[:1, :36], 72, SamplingConfig())
    plain = torch.cat(list(stream_bits(*arguments, torch.Generator().manual_seed(0))), dim=1)
    lenient = SafetyGate(0.0, 0.0)
    guarded = guarded_stream(*arguments, lenient, torch.Generator().manual_seed(0))
    assert np.array_equal(np.concatenate(list(guarded)), plain[0].numpy())


@pytest.mark.parametrize("feature", _cases(FEATURES, 1))
def test_what_every_feature_compresses_comes_back(feature):
    model = feature.swap(tiny_model(**feature.settings))
    feature.apply(model)
    data = b"to and fro, " * 4
    assert decode(model, encode(model, data)) == data
