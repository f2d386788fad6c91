import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bit_transformer.data.split import ByteRange, split_held_out
from bit_transformer.errors import ConfigError, SourceError

layouts = st.sampled_from(["spread", "tail"])
fractions = st.floats(0, 0.99)


def total(ranges):
    return sum(span.size for span in ranges)


@given(
    st.integers(0, 5000), fractions, layouts, st.integers(1, 40), st.integers(1, 300), st.integers()
)
def test_both_sides_cover_everything_once_and_each_holds_a_window(
    size, fraction, layout, regions, min_region, seed
):
    try:
        split = split_held_out(
            size,
            fraction=fraction,
            layout=layout,
            regions=regions,
            min_region=min_region,
            seed=seed,
        )
    except SourceError:
        # Only a corpus that is too short for both parts, or a tail that does not fit, is refused.
        held = max(round(size * fraction), min_region) if fraction else 0
        assert size < held + min_region or layout == "tail"
        return
    spans = sorted([*split.train, *split.held_out], key=lambda span: span.start)
    assert [span.stop for span in spans] == [*[span.start for span in spans[1:]], size]
    assert spans[0].start == 0
    assert all(span.size > 0 for span in spans)
    assert all(span.size >= min_region for span in split.held_out)
    assert any(span.size >= min_region for span in split.train)
    assert list(split.train) == sorted(split.train, key=lambda span: span.start)
    assert bool(split.held_out) == (fraction > 0)


@given(st.integers(10_000, 10**10), st.floats(0.01, 0.5), st.integers(1, 32), st.integers())
def test_spread_has_one_region_of_equal_size_in_every_stratum(size, fraction, regions, seed):
    min_region = 20
    split = split_held_out(
        size, fraction=fraction, regions=regions, min_region=min_region, seed=seed
    )
    assume(round(size * fraction) // min_region >= regions)
    assert len(split.held_out) == regions
    assert total(split.held_out) == round(size * fraction)
    for index, region in enumerate(split.held_out):
        assert index * size // regions <= region.start
        assert region.stop <= (index + 1) * size // regions
        assert abs(region.size - size * fraction / regions) < 2


def test_the_tail_is_the_split_of_nano_gpt():
    split = split_held_out(1_115_394, fraction=0.1, layout="tail", min_region=64, seed=0)
    assert split.train == (ByteRange(0, 1_003_854),)
    assert split.held_out == (ByteRange(1_003_854, 1_115_394),)
    assert split.held_out[0].size == 111_540


def test_nothing_held_out():
    split = split_held_out(100, fraction=0.0, min_region=100, seed=0)
    assert (split.train, split.held_out) == ((ByteRange(0, 100),), ())


def test_short_corpora_get_fewer_regions_and_at_least_one():
    def regions(size):
        return split_held_out(size, fraction=0.05, min_region=128, seed=0).held_out

    assert len(regions(1_000_000)) == 32
    assert len(regions(20_000)) == 7
    assert [span.size for span in regions(2_000)] == [128]
    assert regions(256) == (ByteRange(128, 256),)
    with pytest.raises(SourceError, match=r"255 bytes are too few .* windows of 128 bytes"):
        regions(255)


def test_a_region_may_lie_anywhere_in_its_stratum_and_no_further():
    """A region of 19 bytes has two possible places in a stratum of 20 bytes."""
    places = set()
    for seed in range(20):
        split = split_held_out(320, fraction=0.95, regions=16, min_region=1, seed=seed)
        places |= {region.start - index * 20 for index, region in enumerate(split.held_out)}
        assert all(region.size == 19 for region in split.held_out)
    assert places == {0, 1}


def test_the_seed_alone_moves_the_regions():
    def held_out(seed):
        return split_held_out(10**6, fraction=0.05, min_region=100, seed=seed).held_out

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)
    offsets = {
        region.start - index * 10**6 // 32
        for seed in range(4)
        for index, region in enumerate(held_out(seed))
    }
    assert len(offsets) > 120
    assert max(offsets) > 0.9 * 0.95 * 10**6 / 32


@pytest.mark.parametrize(("size", "fraction"), [(1000, 0.05), (100, 0.99), (0, 0.5), (99, 0.0)])
def test_a_corpus_too_short_for_both_sides_is_refused(size, fraction):
    with pytest.raises(SourceError, match=f"{size} bytes are too few"):
        split_held_out(size, fraction=fraction, layout="tail", min_region=100, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_its_limits_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        split_held_out(1000, fraction=fraction, min_region=10, seed=0)
