"""A sample does not depend on the number of samples."""

import pytest
import torch

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.errors import ConfigError
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import SamplingConfig
from tests.builders import tiny_model


@pytest.mark.parametrize("settings", [{}, {"patch_size": 3}, {"patch_size": 9, "parity": True}])
def test_sample_i_does_not_depend_on_how_many_there_are(settings):
    model = tiny_model(**settings)
    sampling = SamplingConfig(temperature=0.9)
    three = model.sample(b"caf\xe9", 30, sampling=sampling, seed=5, samples=3)
    assert len({sample.content for sample in three}) == 3
    for count in (1, 2):
        fewer = model.sample(b"caf\xe9", 30, sampling=sampling, seed=5, samples=count)
        assert fewer == three[:count]
    assert [len(sample.content) for sample in three] == [30, 30, 30]
    assert {sample.ended for sample in three} == {"length"}


@pytest.mark.parametrize("settings", [{}, {"top_k": 9}, {"valid_utf8": True}])
def test_rows_of_a_batch_draw_what_samples_draw(settings):
    model = tiny_model()
    prompt = torch.from_numpy(bytes_to_bits(b"to be"))[None]
    rows = model.generate(prompt.expand(3, -1), 30 * 8, generator=seeded(1), **settings)
    alone = model.generate(prompt, 30 * 8, generator=seeded(1), **settings)
    assert torch.equal(rows[:1], alone)
    samples = model.sample(b"to be", 30, sampling=SamplingConfig(**settings), seed=1, samples=3)
    assert [bits_to_bytes(row.numpy())[5:] for row in rows] == [one.content for one in samples]


def test_samples_end_at_stop_strings_each_on_its_own():
    model = tiny_model()
    whole = model.sample(b"", 40, seed=2, samples=3)
    stop = whole[1].content[7:9]
    stopped = model.sample(b"", 40, seed=2, samples=3, stop=[stop])
    assert stopped[1].content == whole[1].content[: whole[1].content.find(stop)]
    assert stopped[1].ended == "stop"
    assert stopped[0].content == whole[0].content.split(stop)[0]


def test_settings_outside_their_limits():
    for count, new in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="must be at least 1"):
            tiny_model().sample(b"", new, samples=count)
    with pytest.raises(ConfigError, match="seed must be"):
        tiny_model().sample(b"", 1, seed=2**64)


def test_a_stream_is_drawn_in_evaluation_mode():
    model = tiny_model(dropout=0.5).train()
    with pytest.raises(ConfigError, match=r"call model.eval\(\) first"):
        model.stream(torch.zeros(1, 0, dtype=torch.uint8), 8)
