import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.data.loader import WindowOrder
from bit_transformer.data.split import ByteRange
from bit_transformer.errors import SourceError


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
def test_an_epoch_is_disjoint_windows_inside_the_ranges_as_many_as_promised(made, epoch):
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


def test_over_the_epochs_every_byte_is_seen_at_every_place():
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
