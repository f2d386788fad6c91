"""Neither a stop string nor anything after it is output, for any patch size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.errors import ConfigError
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import StopSearch, stop_strings, unescaped
from bit_transformer.inference.watch import watch
from tests.builders import tiny_model

NEW = 60


def _without(model, prompt, seed=0, **settings):
    """Return the prompt's bits and the bytes drawn without stop strings."""
    bits = torch.from_numpy(bytes_to_bits(prompt, parity=model.config.parity))[None]
    width = model.config.bits_per_byte
    drawn = model.generate(bits, NEW * width, generator=seeded(seed), **settings)
    return bits, bits_to_bytes(drawn[0, bits.shape[1] :].numpy(), parity=model.config.parity)


@pytest.mark.parametrize(
    ("patch_size", "parity"), [(1, False), (3, False), (8, False), (12, False), (9, True)]
)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_generation_ends_before_the_stop_string(patch_size, parity, length):
    model = tiny_model(patch_size=patch_size, parity=parity)
    bits, text = _without(model, b"ab")
    stop = text[20 : 20 + length]
    expected = text[: text.find(stop)]
    stream = model.stream(
        bits, NEW * model.config.bits_per_byte, generator=seeded(0), stop=[b"never there", stop]
    )
    assert stream.ended is None
    pieces = [piece[0].numpy() for piece in stream]
    got = bits_to_bytes(np.concatenate([np.zeros(0, np.uint8), *pieces]), parity=parity)
    assert got == expected
    assert stream.ended == "stop"
    whole = model.generate(bits, NEW * model.config.bits_per_byte, generator=seeded(0), stop=stop)
    assert bits_to_bytes(whole[0].numpy(), parity=parity) == b"ab" + expected


def test_a_sample_without_a_stop_string_is_complete():
    model = tiny_model()
    bits, text = _without(model, b"")
    absent = text[-3:] + b"beyond"
    stream = model.stream(bits, NEW * 8, generator=seeded(0), stop=absent)
    assert bits_to_bytes(torch.cat(list(stream), 1)[0].numpy()) == text
    assert stream.ended == "length"


def test_a_stop_string_with_valid_utf8_leaves_valid_utf8():
    model = tiny_model(patch_size=3)
    bits, text = _without(model, b"", valid_utf8=True)
    stop = text.decode()[4:6]
    drawn = model.generate(bits, NEW * 8, generator=seeded(0), valid_utf8=True, stop=stop)
    assert bits_to_bytes(drawn[0].numpy()).decode() == text.decode().split(stop)[0]
    with pytest.raises(ConfigError, match="is not valid UTF-8"):
        model.generate(bits, NEW * 8, valid_utf8=True, stop=b"\xff")


def test_a_watched_sequence_ends_before_the_stop_string():
    model = tiny_model(patch_size=3)
    bits, text = _without(model, b"ab")
    stop = text[10:13]
    seen = watch(
        model.network, bits, NEW * 8, SamplingConfig(), seeded(0), stop=stop, patches_at_once=4
    )
    got = np.concatenate([stretch.bits for stretch in seen])
    assert bits_to_bytes(got) == text[: text.find(stop)]
    assert seen.ended == "stop"


def test_bits_that_complete_the_prompts_last_byte_are_not_searched():
    search = StopSearch((b"A",), byte_bits=8, prompt_bits=3)
    search.read([0, 0, 0, 0, 1])
    assert search.safe_bits == 5
    assert not search.found
    search.read(bytes_to_bits(b"xA.").tolist())
    assert search.found
    assert search.safe_bits == 5 + 8


@given(
    text=st.binary(max_size=40),
    strings=st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=3),
    cut=st.integers(1, 13),
    parity=st.booleans(),
)
def test_the_search_finds_the_first_string_and_never_releases_too_much(text, strings, cut, parity):
    text = bytes(byte & 3 for byte in text)
    strings = [bytes(byte & 3 for byte in string) for string in strings]
    width = 9 if parity else 8
    search = StopSearch(tuple(strings), byte_bits=width, prompt_bits=0)
    bits = bytes_to_bits(text, parity=parity)
    ends = [text.find(s) + len(s) for s in strings if s in text]
    begins = [min(ends) - len(s) for s in strings if text[: min(ends)].endswith(s)] if ends else []
    limit = min(begins) * width if begins else len(bits)
    for start in range(0, len(bits), cut):
        search.read(bits[start : start + cut].tolist())
        assert search.safe_bits <= limit
    assert search.found == bool(ends)
    if ends:
        assert search.safe_bits == limit


def test_a_batch_and_stop_strings_exclude_each_other():
    with pytest.raises(ConfigError, match="a batch of 2 sequences would stop at different"):
        tiny_model().generate(torch.zeros(2, 8, dtype=torch.uint8), 8, stop=b"a")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (b"", "1 to 1024 bytes, got 0"),
        ([b"a", "x" * 1025], "1 to 1024 bytes, got 1025"),
        (["a"] * 65, "at most 64 stop strings, got 65"),
        ("\udce9", "is not valid UTF-8"),
    ],
)
def test_stop_strings_outside_their_limits(stop, message):
    with pytest.raises(ConfigError, match=message):
        stop_strings(stop)


def test_escapes_of_the_command_line():
    assert unescaped(rb"a\n\t\r\0\xe9\\n") == b"a\n\t\r\0\xe9\\n"
    for wrong in (rb"\q", b"end\\", rb"\x1"):
        with pytest.raises(ConfigError, match="there is no escape"):
            unescaped(wrong)
