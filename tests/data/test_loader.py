import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bit_transformer.bits.codec import bits_to_bytes
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.loader import WindowLoader, WindowOrder
from bit_transformer.data.split import ByteRange
from bit_transformer.errors import ConfigError, SourceError

WINDOW = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    data = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    folder = tmp_path_factory.mktemp("corpus")
    for index in range(3):
        (folder / str(index)).write_bytes(data[index * 1000 : (index + 1) * 1000])
    return Corpus([folder / str(index) for index in range(3)])


@pytest.fixture(scope="module")
def make(corpus):
    order = WindowOrder([ByteRange(100, 1500), ByteRange(1700, 3000)], WINDOW, 5)

    def loader(batch_size=8, **options):
        return WindowLoader(corpus, order, batch_size=batch_size, **options)

    return loader


@pytest.mark.parametrize("parity", [False, True])
def test_a_batch_is_the_windows_of_the_order_as_bits(make, corpus, parity):
    loader = make(parity=parity)
    order = WindowOrder([ByteRange(100, 1500), ByteRange(1700, 3000)], WINDOW, 5)
    for batch in range(40):
        bits = loader.next_batch()
        assert bits.dtype == torch.uint8
        assert bits.shape == (8, WINDOW * (9 if parity else 8)) == (8, loader.bits_per_window)
        offsets = order.offsets(np.arange(8 * batch, 8 * batch + 8))
        for row, offset in zip(bits, offsets.tolist(), strict=True):
            expected = corpus.read(offset, WINDOW).tobytes()
            assert bits_to_bytes(row, parity=parity) == expected


@given(
    st.integers(0, 20),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
)
@settings(max_examples=25)
def test_resuming_at_any_world_size_gives_the_same_batches(make, taken, before, after, parity):
    """Together, the rows of all ranks form the batch of one rank that never stopped."""
    whole = make(parity=parity)
    for _ in range(taken):
        whole.next_batch()
    stopped = make(rank=before - 1, world_size=before)
    for _ in range(taken):
        stopped.next_batch()
    ranks = [make(rank=rank, world_size=after, parity=parity) for rank in range(after)]
    for rank in ranks:
        rank.load_state_dict(stopped.state_dict())
    for _ in range(3):
        shares = [rank.next_batch() for rank in ranks]
        together = torch.stack(shares, dim=1).flatten(0, 1)
        assert torch.equal(together, whole.next_batch())
    assert ranks[0].state_dict() == whole.state_dict() == {"batches": taken + 3}


def test_progress_is_in_epochs(make, corpus):
    order = WindowOrder([ByteRange(0, 3000)], WINDOW, 0)
    loader = WindowLoader(corpus, order, batch_size=len(order) // 2, rank=0, world_size=1)
    assert loader.epoch == 0.0
    loader.next_batch()
    assert loader.epoch == pytest.approx(0.5, abs=0.01)
    loader.load_state_dict({"batches": 8})
    assert loader.epoch == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6, "world_size": 4}, "multiple of world_size 4, got 6"),
        ({"batch_size": 0}, "positive multiple .* got 0"),
        ({"rank": 2, "world_size": 2}, "got 2 of 2"),
        ({"rank": -1, "world_size": 2}, "got -1 of 2"),
        ({"world_size": 0}, "got 0 of 0"),
    ],
)
def test_invalid_batch_sizes_and_ranks_are_refused(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize("state", [{}, {"batches": -1}, {"steps": 3}])
def test_a_state_without_a_count_is_refused(make, state):
    with pytest.raises(ConfigError, match="at least 0"):
        make().load_state_dict(state)


@st.composite
def settings_of_orders(draw):
    window = draw(st.integers(1, 40))
    ranges, start = [], 0
    for gap, size in draw(
        st.lists(st.tuples(st.integers(0, 50), st.integers(1, 300)), min_size=1, max_size=6)
    ):
        ranges.append(ByteRange(start + gap, start + gap + size))
        start = ranges[-1].stop
    if max(span.size for span in ranges) < window:
        ranges.append(ByteRange(start, start + window))
    return ranges, window, draw(st.integers(-(2**70), 2**70))


def epoch_of(order, epoch):
    return order.offsets(np.arange(len(order), dtype=np.int64) + epoch * len(order))


@given(settings_of_orders(), st.integers(0, 2**30))
def test_the_windows_of_an_epoch_are_disjoint_and_inside_the_ranges(made, epoch):
    ranges, window, _ = made
    order = WindowOrder(*made)
    offsets = np.sort(epoch_of(order, epoch))
    assert (np.diff(offsets) >= window).all()
    held = [
        sum(span.start <= o and o + window <= span.stop for o in offsets.tolist())
        for span in ranges
    ]
    assert sum(held) == len(order) == offsets.size
    for span, count in zip(ranges, held, strict=True):
        expected = max(1, (span.size - window + 1) // window) if span.size >= window else 0
        assert count == expected


@given(settings_of_orders(), st.lists(st.integers(0, 10_000), max_size=20))
def test_offsets_depend_on_nothing_but_the_index(made, indices):
    order = WindowOrder(*made)
    together = order.offsets(np.array(indices, np.int64))
    alone = [int(order.offsets(np.array([index], np.int64))[0]) for index in indices]
    assert together.dtype == np.int64
    assert together.tolist() == alone


def test_epochs_differ_in_phase_and_order_and_seeds_too():
    ranges = [ByteRange(0, 100_000)]
    order, other = WindowOrder(ranges, 100, 0), WindowOrder(ranges, 100, 1)
    phases = {int(epoch_of(order, epoch).min()) for epoch in range(50)}
    assert len(phases) > 30
    first, second = epoch_of(order, 0), epoch_of(order, 1)
    assert (np.argsort(first) == np.argsort(second)).mean() < 0.02
    assert (np.argsort(first) == np.argsort(epoch_of(other, 0))).mean() < 0.02
    assert abs(np.corrcoef(first, np.arange(len(order)))[0, 1]) < 0.1


def test_over_the_epochs_a_window_starts_at_every_place():
    order = WindowOrder([ByteRange(0, 30)], 5, 0)
    starts = {int(offset) for epoch in range(200) for offset in epoch_of(order, epoch)}
    assert starts == set(range(26))


def test_a_range_without_a_window_is_skipped_and_none_is_an_error():
    order = WindowOrder([ByteRange(0, 9), ByteRange(20, 30)], 10, 0)
    assert len(order) == 1
    assert epoch_of(order, 3).tolist() == [20]
    for ranges, longest in (([ByteRange(0, 9)], 9), ([], 0)):
        with pytest.raises(SourceError, match=f"window of 10 bytes, the longest has {longest};"):
            WindowOrder(ranges, 10, 0)


def test_a_terabyte_costs_no_memory():
    order = WindowOrder([ByteRange(0, 2**40)], 100, 0)
    assert len(order) == (2**40 - 99) // 100
    offsets = order.offsets(np.arange(1000, dtype=np.int64))
    assert offsets.max() > 0.95 * 2**40
    assert len(set(offsets.tolist())) == 1000
