"""Tests of a network mixed with the context mixer: one exact chain rule for reading, scoring and
sampling, and a mixer that learns without changing the network or other sequences."""

import numpy as np
import pytest
import torch

from bit_transformer import BitTransformerLM, SamplingConfig
from bit_transformer.bits.codec import bytes_to_bits
from bit_transformer.bits.tensor import bits_of
from bit_transformer.compression.contexts import BINARY, RICH_TEXT
from bit_transformer.compression.fixed_point import MIN_PROBABILITY, ONE
from bit_transformer.compression.mixed_network import MixedNetwork, mixed
from bit_transformer.compression.mixer import Mixer, new_mixer
from bit_transformer.errors import ConfigError, InvalidPredictionError, UnsupportedCombination
from bit_transformer.inference.generate import generate_bits
from bit_transformer.inference.predictor import Predictor, log2_likelihood
from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.inference.watch import bit_metrics, watch
from tests.builders import tiny_model

_TEXT = b"hello there, this is a test of mixing; hello there again, and again. " * 4
_GIVEN = b"hello there, this is a list of things to mix. " * 10
_PATCHES = [{}, {"patch_size": 4}, {"patch_size": 1}, {"patch_size": 9, "parity": True}]


def _model(**settings) -> BitTransformerLM:
    return tiny_model(max_seq_len=720, memory_bits=(), **settings)


def _mixed(model: BitTransformerLM, given: bytes = _GIVEN) -> MixedNetwork:
    return mixed(model.network, given=given, sample=_TEXT, table_bits=14)


@pytest.mark.parametrize("settings", _PATCHES)
def test_what_is_read_was_predicted_for_every_value(settings):
    model = _model(**settings)
    source, patch = _mixed(model), model.config.patch_size
    bits = bits_of(_TEXT, parity=model.config.parity)
    for known in {0, 1, patch - 1} & set(range(patch)):
        end = 7 * model.config.bits_per_byte
        predictor = source.predictor()
        predictor.read(bits[:, : end + known])
        logits = predictor.node_logits
        assert patch_log_probabilities(logits).exp().sum() == pytest.approx(1, abs=1e-5)
        node, following = 1, bits[:, end + known : end + patch]
        for bit in bits[0, end : end + known].tolist():
            node = 2 * node + bit
        expected = []
        for bit in following[0].tolist():
            expected.append(float(logits[0, node]))
            node = 2 * node + bit
        had = predictor.read(following)
        assert torch.equal(had, log2_likelihood(torch.tensor([expected]), following))


@pytest.mark.parametrize("settings", _PATCHES)
def test_how_bits_are_cut_into_calls_changes_nothing(settings):
    model = _model(**settings)
    source = _mixed(model)
    bits = bits_of(_TEXT, parity=model.config.parity)
    whole = source.predictor().read(bits)
    predictor = source.predictor()
    pieces = [predictor.read(piece) for piece in torch.split(bits, 37, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-2)
    assert float(torch.cat(pieces, dim=1).sum()) == pytest.approx(float(whole.sum()), rel=1e-3)


def test_no_prediction_depends_on_a_later_bit():
    source, bits, at = _mixed(_model()), bits_of(_TEXT), 1001
    changed = bits.clone()
    changed[0, at] ^= 1
    first, second = (source.predictor().read(row)[0] for row in (bits, changed))
    assert torch.equal(first[:at], second[:at])
    assert 2.0 ** first[at] + 2.0 ** second[at] == pytest.approx(1, abs=1e-5)


def test_looking_at_all_nodes_changes_nothing():
    mixer = _mixed(_model()).mixer
    mixer.read(bytes_to_bits(_TEXT[:51]), np.zeros(408, np.float32))
    rng = np.random.default_rng(0)
    untouched = mixer.copy()
    mixer.node_log_odds(rng.normal(size=256).astype(np.float32))
    for name in ("buckets", "weights", "apms", "heads", "history"):
        assert np.array_equal(getattr(mixer.tables, name), getattr(untouched.tables, name)), name
    for own, other in zip(mixer.lanes, untouched.lanes, strict=True):
        assert np.array_equal(own, other)


def test_sequences_do_not_change_each_other_nor_the_network():
    model = _model()
    source, bits = _mixed(model), bits_of(_TEXT)
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    first = source.predictor().read(bits)
    assert torch.equal(source.predictor().read(bits), first)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, weights[name])


def test_static_and_adaptive_surprisal_are_those_of_each_alone():
    model = _model()
    source = _mixed(model)
    data = np.frombuffer(_TEXT, np.uint8)
    pieces = [data[:50], data[50:51], data[51:]]
    found = list(source.surprisal(pieces, window_bytes=90, overlap_bytes=0))
    static, adaptive = (np.concatenate(part) for part in zip(*found, strict=True))
    np.testing.assert_allclose(
        static, model.score(_TEXT, window_bytes=90, overlap_bytes=0).surprisal, rtol=1e-5
    )
    one_window = next(iter(source.surprisal([data[:90]]))).adaptive
    read = -source.predictor().read(bits_of(_TEXT[:90]))[0].numpy().reshape(-1, 8).sum(-1)
    np.testing.assert_allclose(one_window, read, atol=2e-2)
    assert adaptive[100:].mean() < 0.5 * static[100:].mean()


def test_what_is_given_is_known():
    model = _model()
    data = [np.frombuffer(_GIVEN[:200], np.uint8)]
    cold = _mixed(model, given=b"").surprisal(data)
    warm = _mixed(model).surprisal(data)
    assert next(iter(warm)).adaptive.mean() < 0.3 * next(iter(cold)).adaptive.mean()


def test_watched_metrics_equal_those_of_the_finished_sequence():
    model = _model()
    source, prompt = _mixed(model), bits_of(_TEXT[:10])
    generator = torch.Generator().manual_seed(0)
    watched = watch(source, prompt, 320, SamplingConfig(), generator)
    stretches = list(watched)
    drawn = torch.from_numpy(np.concatenate([stretch.bits for stretch in stretches]))[None]
    (metrics,) = bit_metrics(source, torch.cat((prompt, drawn), dim=1))
    found = stretches[-1].readings.at(-1)
    for name, value in metrics.at(-1).items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("settings", _PATCHES)
def test_samples_obey_the_constraints(settings):
    model = _model(**settings)
    width = model.config.bits_per_byte
    sampling = SamplingConfig(temperature=1.5, top_k=20 if model.config.patch_size > 4 else None)
    new = generate_bits(
        _mixed(model),
        bits_of("grüß".encode(), parity=model.config.parity),
        20 * width,
        SamplingConfig(sampling.temperature, sampling.top_k, valid_utf8=True),
        torch.Generator().manual_seed(1),
    )
    data = np.packbits(new[0].numpy().reshape(-1, width)[:, :8]).tobytes()
    data.decode()


def test_where_the_mixer_is_at_its_limit_a_surer_network_counts():
    mixer = new_mixer(np.frombuffer(_TEXT, np.uint8), table_bits=14, network=True)
    zeros = np.zeros(80_000, np.uint8)
    mixer.read(zeros, np.full(len(zeros), -5, np.float32))
    at_limit = np.log(MIN_PROBABILITY / (ONE - MIN_PROBABILITY))
    (unsure,) = mixer.copy().read(zeros[:1], np.full(1, -5, np.float32))
    (sure,) = mixer.copy().read(zeros[:1], np.full(1, -11, np.float32))
    assert unsure == pytest.approx(at_limit)
    assert sure == pytest.approx(-11)


def test_history_grows_beyond_its_first_room():
    mixer = Mixer(profile=BINARY, table_bits=14, network=False)
    data = np.random.default_rng(0).integers(0, 256, 70_000, dtype=np.uint8)
    mixer.learn(data)
    mixer.read(np.unpackbits(data[:9]))
    assert mixer.bits_read == 8 * 70_009
    assert np.array_equal(mixer.copy().tables.history[:70_000], data)


def test_the_data_decides_on_the_contexts():
    binary = np.arange(256, dtype=np.uint8)
    assert new_mixer(binary, table_bits=14, network=True).profile == BINARY
    assert mixed(_model().network, sample=_TEXT, table_bits=14).mixer.profile == RICH_TEXT


def test_a_prediction_that_becomes_nan_is_not_mixed_away():
    model = _model()
    with torch.no_grad():
        model.network.embedding.nodes[256 + ord("x")] = torch.inf
    predictor = _mixed(model).predictor()
    predictor.read(bits_of(b"abc"))
    with pytest.raises(InvalidPredictionError, match="is NaN"):
        predictor.read(bits_of(b"x"))


def test_its_limits_are_errors():
    model = _model()
    with pytest.raises(ConfigError, match="no input for a network"):
        MixedNetwork(model.network, Mixer(profile=BINARY, table_bits=14, network=False))
    with pytest.raises(ConfigError, match="batch of 2"):
        _mixed(model).predictor(2)
    with pytest.raises(UnsupportedCombination, match="patches of 3 bits cross bytes"):
        _mixed(_model(patch_size=3)).predictor()
    # Scoring reads bit by bit, so it takes patches of any size.
    scored = _mixed(_model(patch_size=3)).surprisal([np.frombuffer(_TEXT, np.uint8)])
    assert sum(len(part.adaptive) for part in scored) == len(_TEXT)
    assert Predictor(model.network).config is model.config
