"""Tests of a saved mixer: it comes back exactly, and no file makes compiled code misbehave."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bit_transformer.compression import mixer_file
from bit_transformer.compression.contexts import BINARY, RICH_TEXT, TEXT
from bit_transformer.compression.mixer import MAX_HISTORY_BYTES, Mixer
from bit_transformer.compression.mixer_file import load_mixer, mixer_path, save_mixer
from bit_transformer.errors import CodecError, MixerFileError, SourceError

_TEXT = b"hello there, this is a test:\n  of mixing; hello there again, and Again. \n" * 40
_BINARY = np.random.default_rng(0).integers(0, 7, 3000, dtype=np.uint8).tobytes()


def _values(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _mixer(data: bytes = _TEXT, *, profile: int = RICH_TEXT, network: bool = True, bits: int = 10):
    mixer = Mixer(profile=profile, table_bits=bits, network=network)
    mixer.learn(_values(data))
    return mixer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mixer.safetensors"


@pytest.mark.parametrize("length", [0, 1, 7, 500, 2900])
@pytest.mark.parametrize("profile", [TEXT, BINARY, RICH_TEXT])
@pytest.mark.parametrize("network", [True, False])
def test_a_loaded_mixer_predicts_the_same_bits(length, profile, network, path):
    data = _BINARY if profile == BINARY else _TEXT
    # The table is small, so that contexts replace each other, also at the beginning of a byte.
    mixer = _mixer(data[:length], profile=profile, network=network)
    save_mixer(path, mixer)
    loaded = load_mixer(path)
    assert (loaded.profile, loaded.table_bits, loaded.network) == (profile, 10, network)
    assert loaded.bits_read == 8 * length
    for own, other in zip(mixer.lanes, loaded.lanes, strict=True):
        assert np.array_equal(own, other)
    bits = np.unpackbits(_values((data[length - 9 :] + _BINARY)[:900]))
    odds = np.random.default_rng(1).normal(0, 3, bits.size).astype(np.float32) if network else None
    assert np.array_equal(mixer.read(bits, odds), loaded.read(bits, odds))


def test_a_mixer_that_has_read_with_a_network_comes_back_too(path):
    mixer = _mixer()
    bits = np.unpackbits(_values(_BINARY[:300]))
    mixer.read(bits, np.random.default_rng(2).normal(0, 3, bits.size).astype(np.float32))
    save_mixer(path, mixer)
    nodes = np.random.default_rng(3).normal(0, 3, 256).astype(np.float32)
    assert np.array_equal(load_mixer(path).node_log_odds(nodes), mixer.node_log_odds(nodes))


def test_learning_in_pieces_is_learning_at_once():
    first, second = _mixer(), Mixer(profile=RICH_TEXT, table_bits=10, network=True)
    second.learn_pieces(_values(_TEXT[at : at + 700]) for at in range(0, len(_TEXT), 700))
    for own, other in zip(first.tables, second.tables, strict=True):
        assert np.array_equal(own, other)


def test_a_mixer_inside_a_byte_is_not_saved(path):
    mixer = _mixer()
    mixer.read(np.ones(3, np.uint8), np.zeros(3, np.float32))
    with pytest.raises(MixerFileError, match="has read 3 bits of a byte"):
        save_mixer(path, mixer)
    assert not path.exists()


def test_damage_is_one_error_that_names_the_file(path):
    save_mixer(path, _mixer())
    content = path.read_bytes()
    rng = np.random.default_rng(4)
    places = [*rng.integers(0, len(content), 30), *range(0, 1200, 37)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(MixerFileError, match=r"mixer.safetensors .*; remove it"):
            load_mixer(path)
    for length in (0, 5, 300, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(MixerFileError, match="remove it, and make it again with `warm`"):
            load_mixer(path)


def _change(path, header=None, **tensors):
    """Rewrite a saved mixer with other values and a digest that fits them."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        changed = dict(file.metadata()) | (header or {})
    del changed["sha256"]
    values = load_file(path) | tensors
    values = {name: value for name, value in values.items() if value is not None}
    changed["sha256"] = mixer_file._digest(changed, values)
    save_file(values, path, changed)


def _with(path, name, place, value):
    changed = load_file(path)[name].copy()
    changed.flat[place] = value
    return {name: changed}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"version": "2"}, "has version '2' of the format, and 1 is expected"),
        ({"format": "another"}, "is not a saved mixer"),
        ({"profile": "3"}, "has profile '3'"),
        ({"table_bits": "25"}, "has table_bits '25'"),
        ({"table_bits": "9"}, "has table_bits '9'"),
        ({"network": "1"}, "has network '1'"),
        ({"more": "1"}, "has other metadata"),
        ({"table_bits": "11"}, "has buckets of type U16"),
        ({"profile": "0"}, "of type .* and shape"),
    ],
)
def test_a_header_outside_its_limits_is_refused(header, message, path):
    save_mixer(path, _mixer())
    _change(path, header)
    with pytest.raises(MixerFileError, match=message):
        load_mixer(path)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("buckets", 1, 1024),
        ("buckets", 32 * 1024 - 17, 1024),
        ("clock", 0, -(1 << 14)),
        ("clock", 0, (1 << 62) + 1),
        ("places", 0, -32),
        ("places", 3, 33),
        ("places", 29, 32 * 1024),
    ],
)
def test_a_value_that_would_index_memory_elsewhere_is_refused(name, place, value, path):
    save_mixer(path, _mixer())
    _change(path, **_with(path, name, place, value))
    with pytest.raises(MixerFileError, match="counts or places outside their limits"):
        load_mixer(path)


def test_tensors_that_do_not_fit_are_refused(path):
    for changes in (
        {"history": np.zeros((2, 2), np.uint8)},
        {"history": np.zeros(4, np.int8)},
        {"order_0": np.zeros(255, np.uint32)},
        {"order_0": np.zeros(256, np.int32)},
        {"clock": None},
        {"heads": np.zeros((2, 4096), np.int32)},
    ):
        save_mixer(path, _mixer())
        _change(path, **changes)
        with pytest.raises(MixerFileError, match=r"of type|other tensors"):
            load_mixer(path)


def test_any_numbers_in_the_tables_are_safe_to_read(path):
    save_mixer(path, _mixer())
    rng, tensors = np.random.default_rng(5), load_file(path)
    for name, values in tensors.items():
        if name not in ("places", "clock"):
            noise = rng.integers(0, 256, values.nbytes, dtype=np.uint8).view(values.dtype)
            tensors[name] = noise.reshape(values.shape).copy()
    tensors["buckets"].reshape(-1, 32)[:, 1:16] %= 1024
    _change(path, **tensors)
    loaded = load_mixer(path)
    bits = np.unpackbits(_values(_TEXT))
    assert np.isfinite(loaded.read(bits, np.zeros(bits.size, np.float32))).all()
    assert np.isfinite(loaded.node_log_odds(np.zeros(256, np.float32))).all()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SourceError, match="missing"):
        load_mixer(tmp_path / "missing")
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(MixerFileError, match=r"manifest\.json is not a whole safetensors file"):
        load_mixer(tmp_path / "manifest.json")


def test_the_place_of_a_mixer(tmp_path):
    run = tmp_path / "run"
    assert mixer_path(run) == run / "mixer.safetensors"
    assert mixer_path(run / "checkpoints" / "step-00000010") == run / "mixer.safetensors"


def test_the_history_has_a_limit():
    with pytest.raises(CodecError, match=f"at most {MAX_HISTORY_BYTES:,} bytes"):
        _mixer()._make_room(MAX_HISTORY_BYTES)
