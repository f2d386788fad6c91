import os

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.codec import bits_to_bytes
from bit_transformer.data.config import DataConfig
from bit_transformer.data.dataset import Dataset, open_dataset
from bit_transformer.data.split import ByteRange, Split
from bit_transformer.errors import ConfigError, SourceError

GIB = 2**30


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    # Every two-byte number appears once, so a window tells where it comes from.
    numbers = np.arange(20_000, dtype=">u2").tobytes()
    (path / "a").write_bytes(numbers[:15_000])
    (path / "b").write_bytes(numbers[15_000:])
    return path


def opened(folder, *, window_bytes=64, **settings):
    config = DataConfig(sources=(str(folder),), **settings)
    return open_dataset(config, window_bytes=window_bytes, spool=folder.parent / "spool")


@pytest.mark.parametrize("layout", ["spread", "tail"])
def test_no_training_window_touches_the_held_out_bytes(folder, layout):
    dataset = opened(folder, held_out_fraction=0.2, held_out_layout=layout, held_out_regions=5)
    whole = dataset.corpus.read(0, dataset.corpus.size).tobytes()
    held_out = [region.tobytes() for region in dataset.held_out_bytes()]
    assert len(held_out) == (5 if layout == "spread" else 1)
    assert sum(map(len, held_out)) == pytest.approx(0.2 * len(whole), abs=2)
    secret = np.zeros(len(whole), bool)
    for region in held_out:
        assert whole.count(region) == 1
        secret[whole.index(region) :][: len(region)] = True
    loader = dataset.loader(10, seed=3)
    while loader.epoch < 3:
        for row in loader.next_batch():
            start = whole.index(bits_to_bytes(row))
            assert not secret[start : start + 64].any()


def test_loaders_differ_by_seed_and_share_by_rank(folder):
    dataset = opened(folder)
    one, other = dataset.loader(4, seed=0), dataset.loader(4, seed=1)
    assert not (one.next_batch() == other.next_batch()).all()
    shares = [dataset.loader(4, parity=True, rank=r, world_size=2).next_batch() for r in (0, 1)]
    whole = dataset.loader(4, parity=True).next_batch()
    assert (shares[0] == whole[0::2]).all()
    assert (shares[1] == whole[1::2]).all()


@given(st.lists(st.integers(1, 50), max_size=6), st.none() | st.integers(0, 400))
def test_a_limit_is_met_exactly_and_evenly(sizes, limit):
    class Stream:
        def read(self, start, count):
            return np.full(count, start % 256, np.uint8)

    starts = np.cumsum([0, *sizes]).tolist()
    regions = tuple(ByteRange(start, start + n) for start, n in zip(starts, sizes, strict=False))
    taken = [part.size for part in sample(Stream(), regions, limit)]
    total = sum(sizes)
    assert sum(taken) == (total if limit is None else min(limit, total))
    if limit is None or limit >= total:
        assert taken == sizes
    elif len(taken) == len(sizes):
        for part, size in zip(taken, sizes, strict=True):
            assert part <= size
            assert abs(part - limit * size / total) < 1


def sample(stream, regions, limit):
    # The corpus is a fake, which the run-time check of the constructor would refuse.
    dataset = object.__new__(Dataset)
    object.__setattr__(dataset, "corpus", stream)
    object.__setattr__(dataset, "split", Split((), regions))
    return list(dataset.held_out_bytes(limit))


def test_the_seed_of_the_config_places_the_held_out_regions(folder):
    splits = [opened(folder, held_out_seed=seed).split for seed in (0, 1, 1)]
    assert splits[0] != splits[1] == splits[2]


def test_nothing_held_out_gives_nothing(folder):
    assert list(opened(folder, held_out_fraction=0.0).held_out_bytes()) == []


def test_a_negative_limit_and_an_empty_window_are_refused(folder):
    with pytest.raises(ConfigError, match="at least 0 bytes, got -1"):
        next(opened(folder).held_out_bytes(-1))
    with pytest.raises(ConfigError, match="window_bytes must be at least 1, got 0"):
        opened(folder, window_bytes=0)


def test_data_too_short_for_the_context_is_refused(folder):
    with pytest.raises(SourceError, match="40000 bytes are too few"):
        opened(folder, window_bytes=30_000)


def test_the_default_is_the_standard_library(tmp_path):
    dataset = open_dataset(DataConfig(), window_bytes=512, spool=tmp_path)
    assert len(dataset.split.held_out) == 32
    assert dataset.loader(2).next_batch().shape == (2, 4096)


def test_a_sparse_ten_gigabyte_file_yields_batches_in_little_memory(tmp_path):
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, 10 * GIB)
    before = psutil.Process().memory_info().rss
    dataset = open_dataset(
        DataConfig(sources=(str(path),)), window_bytes=1024, spool=tmp_path / "spool"
    )
    loader = dataset.loader(8, parity=True)
    for _ in range(3):
        assert loader.next_batch().shape == (8, 9 * 1024)
    assert sum(part.size for part in dataset.held_out_bytes(100_000)) == 100_000
    assert psutil.Process().memory_info().rss - before < GIB // 10
