"""Compressed data decodes to itself, and damage is detected and contained."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bit_transformer import BitTransformerLM, decode, encode
from bit_transformer.compression import block, container, encoding
from bit_transformer.compression.config import CodecConfig
from bit_transformer.compression.decoding import (
    decode_bytes,
    decompress_stream,
    list_blocks,
    recover_stream,
)
from bit_transformer.compression.encoding import Shared, compress_stream, encode_bytes
from bit_transformer.compression.lane_network import LaneNetwork, LaneReader
from bit_transformer.compression.network_self_test import reference_network
from bit_transformer.errors import (
    ConfigError,
    ContainerError,
    ContainerVersionError,
    ModelMismatchError,
    VerificationError,
)

GOLDEN = Path(__file__).parent / "golden"
TEXT = b"".join(b"%d sheep jump over %d fences, " % (n, n * n % 17) for n in range(400))
MODES = ("mixer", "hybrid", "flat bits", "five bits", "parity", "reversible")
SMALL_BLOCKS = CodecConfig(block_bytes=4000, segment_bytes=1000, lanes=2)

_DATA = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(str.encode),
    st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 60)).map(lambda t: t[0] * t[1]),
)
_CONFIGS = st.builds(
    CodecConfig,
    block_bytes=st.integers(60, 400),
    segment_bytes=st.integers(1, 60),
    table_bits=st.sampled_from([10, 12]),
    lanes=st.integers(1, 5),
    verify=st.booleans(),
    best=st.booleans(),
)


@pytest.fixture(scope="module")
def run_of_all_modes(shared_by_mode):
    def check(data: bytes, mode: str, config: CodecConfig, dictionary: bytes) -> None:
        network = shared_by_mode[mode].network
        shared = Shared(network, np.frombuffer(dictionary, np.uint8).copy())
        blob = encode_bytes(data, shared=shared, config=config)
        assert decode_bytes(blob, shared=shared) == data

    return check


_ANY = {"data": _DATA, "mode": st.sampled_from(MODES), "config": _CONFIGS}
_DICTIONARIES = st.binary(max_size=20)
_QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(deadline=None, max_examples=60, suppress_health_check=_QUIET)
@given(dictionary=_DICTIONARIES, **_ANY)
def test_whatever_is_compressed_comes_back(
    short_lanes, run_of_all_modes, data, mode, config, dictionary
):
    run_of_all_modes(data, mode, config, dictionary)


@pytest.mark.slow
@pytest.mark.timeout(2700)
@settings(deadline=None, max_examples=10_000, suppress_health_check=_QUIET)
@given(dictionary=_DICTIONARIES, **_ANY)
def test_ten_thousand_inputs_come_back(
    short_lanes, run_of_all_modes, data, mode, config, dictionary
):
    run_of_all_modes(data, mode, config, dictionary)


@pytest.mark.parametrize("mode", ["mixer", "hybrid"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        "Zażółć gęślą jaźń, 日本語, 🚀".encode(),
        Path(sys.executable).resolve().read_bytes()[:1000],
        TEXT[:1200],
    ],
    ids=["empty", "one byte", "UTF-8", "executable", "text"],
)
def test_all_kinds_of_data_come_back(shared_by_mode, mode, data):
    shared = shared_by_mode[mode]
    assert decode_bytes(encode_bytes(data, shared=shared), shared=shared) == data


@pytest.mark.parametrize("size", [100_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_zeros_are_next_to_nothing(size):
    data = bytes(size)
    blob = encode_bytes(data, config=CodecConfig(verify=False))
    assert len(blob) < 400 + size / 2000
    assert decode_bytes(blob) == data


def test_random_bytes_grow_by_less_than_a_thousandth():
    data = np.random.default_rng(0).bytes(160_000)
    blob = encode_bytes(data)
    assert len(blob) <= 1.001 * len(data)
    assert decode_bytes(blob) == data


def test_a_dictionary_shortens_the_code():
    model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=16, max_seq_len=256)
    assert decode(model, encode(model, TEXT[:200])) == TEXT[:200]
    assert decode(None, encode(None, TEXT)) == TEXT
    sample = np.random.default_rng(0).bytes(300)
    fresh, primed = (len(encode(None, sample, given=g)) for g in (b"", b"before " + sample))
    assert primed < 0.5 * fresh
    assert decode(None, encode(None, TEXT, given=b"sheep"), given=b"sheep") == TEXT


def test_the_best_is_smaller():
    sources = sorted(Path(block.__file__).parent.glob("*.py"))
    data = b"".join(path.read_bytes() for path in sources)[:100_000]
    plain, best = (
        encode_bytes(data, config=CodecConfig(best=best, verify=False)) for best in (False, True)
    )
    assert len(best) < 0.99 * len(plain)
    assert decode_bytes(best) == data


def test_a_network_that_is_right_shortens_the_code(shared_by_mode, monkeypatch):
    shared = shared_by_mode["hybrid"]
    plain = len(encode_bytes(TEXT[:500], shared=shared))
    real, ahead = LaneNetwork.read, iter(TEXT[:500] + b"\0")

    def knowing(self, states, patches, *, at_start):
        log_odds, byte = real(self, states, patches, at_start=at_start), next(ahead)
        for index in range(8):
            node = (byte | 256) >> (8 - index)
            log_odds[0, node] = 3000 if (byte >> (7 - index)) & 1 else -3000
        return log_odds

    monkeypatch.setattr(LaneNetwork, "read", knowing)
    monkeypatch.setattr(LaneReader, "trunk", None)
    told = encode_bytes(TEXT[:500], shared=shared, config=CodecConfig(verify=False))
    assert len(told) < 0.8 * plain


def test_lanes_divided_among_threads_give_the_same_file(short_lanes, shared_by_mode):
    config = CodecConfig(lanes=4)
    alone = encode_bytes(TEXT[:300], shared=shared_by_mode["hybrid"], config=config)
    network = LaneNetwork(reference_network(), threads=3)
    assert len(network.new_states(4)) == 3
    assert encode_bytes(TEXT[:300], shared=Shared(network), config=config) == alone
    assert decode_bytes(alone, shared=Shared(network)) == TEXT[:300]


def test_compiled_code_reads_patches_as_threads_do(shared_by_mode, monkeypatch):
    shared = shared_by_mode["hybrid"]
    compiled = encode_bytes(TEXT[:300], shared=shared)
    monkeypatch.setattr(LaneReader, "trunk", None)
    assert encode_bytes(TEXT[:300], shared=shared) == compiled


@pytest.mark.parametrize(("mode", "size"), [("mixer", 140_000), ("flat bits", 7000)])
def test_the_smallest_segments_come_back(shared_by_mode, mode, size):
    data = np.random.default_rng(0).bytes(size)
    shared, config = shared_by_mode[mode], CodecConfig(segment_bytes=1, verify=False)
    blob = encode_bytes(data, shared=shared, config=config)
    assert decode_bytes(blob, shared=shared) == data
    least = 8 if mode == "mixer" else 1
    assert len(blob) >= size + 12 * size / least


def test_a_network_of_nan_predicts_nothing():
    network = reference_network()
    with torch.no_grad():
        network.head.nodes.fill_(float("nan"))
    shared = Shared(LaneNetwork(network))
    assert shared.network is not None
    assert not shared.network.begin(2).log_odds.any()
    assert decode_bytes(encode_bytes(TEXT[:300], shared=shared), shared=shared) == TEXT[:300]


@pytest.mark.parametrize(("name", "mode"), [("mixer", "mixer"), ("hybrid", "hybrid")])
def test_golden_files_are_written_and_read(short_lanes, shared_by_mode, name, mode):
    """The format is fixed byte for byte. Any other bytes need another version number."""
    blob = (GOLDEN / f"{name}-3.btz").read_bytes()
    shared = shared_by_mode[mode]
    config = CodecConfig(block_bytes=500, segment_bytes=200, lanes=2)
    assert encode_bytes(TEXT[:700], shared=shared, config=config) == blob
    assert decode_bytes(blob, shared=shared) == TEXT[:700]


@pytest.mark.parametrize(("name", "mode"), [("mixer", "mixer"), ("hybrid", "hybrid")])
def test_files_of_version_2_are_still_read(shared_by_mode, name, mode):
    blob, shared = (GOLDEN / f"{name}.btz").read_bytes(), shared_by_mode[mode]
    assert blob[8] == 2
    assert decode_bytes(blob, shared=shared) == TEXT[:700]
    found = recover_stream(io.BytesIO(blob), sink := io.BytesIO(), shared=shared)
    assert (sink.getvalue(), found.damage) == (TEXT[:700], [])
    newer = encode_bytes(TEXT[:300], shared=shared)
    assert decode_bytes(blob + newer, shared=shared) == TEXT[:700] + TEXT[:300]


def test_a_stream_of_unknown_length_in_small_pieces_comes_back():
    class Trickle(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._rest = io.BytesIO(content)

        def read(self, size=-1):
            return self._rest.read(min(size, 7))

    sink = io.BytesIO()
    done = compress_stream(Trickle(TEXT[:3000]), sink, config=SMALL_BLOCKS)
    assert (done.raw_bytes, done.coded_bytes) == (3000, len(sink.getvalue()))
    out = io.BytesIO()
    assert decompress_stream(Trickle(sink.getvalue()), out) == 3000
    assert out.getvalue() == TEXT[:3000]


def test_no_more_than_a_block_is_read_before_it_is_written():
    """Only one block is in memory, however long the file is."""

    class Zeros:
        taken = 0

        def read(self, size: int) -> bytes:
            found = min(size, 100_000 - self.taken)
            self.taken += found
            return bytes(found)

    class Watching:
        def __init__(self) -> None:
            self.read_by_then: list[int] = []

        def write(self, content: bytes) -> None:
            self.read_by_then.append(source.taken)

    source, sink = Zeros(), Watching()
    config = CodecConfig(block_bytes=20_000, segment_bytes=5000, verify=False)
    compress_stream(source, sink, config=config)
    blocks = [20_000 * block for block in range(1, 6)]
    assert sink.read_by_then == [0, *blocks, 100_000]


def test_two_hundred_corruptions_are_all_detected():
    blob = encode_bytes(TEXT[:1500], config=CodecConfig(block_bytes=800, segment_bytes=200))
    rng = np.random.default_rng(0)
    blocks = _block_spans(blob)
    for number in range(200):
        damaged = _corrupted(blob, blocks, number % 7, rng)
        assert damaged != blob
        with pytest.raises((ContainerError, ContainerVersionError)):
            decode_bytes(damaged)
        assert _recovered_is_true(damaged)


def _block_spans(blob: bytes) -> list[tuple[int, int]]:
    rows = list_blocks(io.BytesIO(blob)).blocks
    begin, spans = blob.index(container.BLOCK), []
    for row in rows:
        end = begin + container.BLOCK_HEADER_BYTES + row.coded_bytes
        spans.append((begin, end))
        begin = end
    return spans


def _corrupted(blob: bytes, blocks: list[tuple[int, int]], kind: int, rng) -> bytes:
    at = int(rng.integers(len(blob)))
    if kind == 0:
        return blob[:at] + bytes([blob[at] ^ (1 << int(rng.integers(8)))]) + blob[at + 1 :]
    if kind == 1:
        return blob[:at]
    if kind == 2:
        return blob + rng.bytes(1 + at % 40)
    if kind == 3:
        (a, b), (c, d) = (blocks[i] for i in sorted(rng.choice(len(blocks), 2, replace=False)))
        return blob[:a] + blob[c:d] + blob[b:c] + blob[a:b] + blob[d:]
    length = 1 + at % 30
    if kind == 4:
        return blob[:at] + blob[at + length :]
    if kind == 5:
        return blob[:at] + rng.bytes(length) + blob[at:]
    return blob[:at] + rng.bytes(length) + blob[at + length :]


def _recovered_is_true(damaged: bytes) -> bool:
    """Return whether every byte that recovery does not call missing is right."""
    sink = io.BytesIO()
    try:
        found = recover_stream(io.BytesIO(damaged), sink)
    except (ContainerError, ContainerVersionError):
        return True
    out = bytearray(sink.getvalue())
    assert len(out) == found.raw_bytes
    expected = bytearray(TEXT[:1500][: len(out)].ljust(len(out), b"\0"))
    for begin, end in found.missing:
        out[begin:end] = expected[begin:end] = bytes(end - begin)
    return out == expected


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_damage_stays_in_its_block(lost):
    blob = bytearray(encode_bytes(TEXT, config=SMALL_BLOCKS))
    _, end = _block_spans(bytes(blob))[lost]
    blob[end - 2] ^= 1
    with pytest.raises(ContainerError, match=rf"block {lost} .*--recover"):
        decode_bytes(bytes(blob))
    sink = io.BytesIO()
    found = recover_stream(io.BytesIO(bytes(blob)), sink)
    assert len(found.damage) == 1
    assert f"block {lost} " in found.damage[0]
    ((first, last),) = found.missing
    size = min(4000, len(TEXT) - 4000 * lost)
    assert 4000 * lost < first < last == 4000 * lost + size
    out = sink.getvalue()
    assert out[:first] + out[last:] == TEXT[:first] + TEXT[last:]


def test_a_lost_block_header_and_swapped_blocks_are_recovered_from():
    blob = encode_bytes(TEXT, config=SMALL_BLOCKS)
    (a, b), (c, d), *_ = _block_spans(blob)
    sink = io.BytesIO()
    found = recover_stream(io.BytesIO(blob[: a + 3] + b"?" + blob[a + 4 :]), sink)
    assert found.missing == [(0, 4000)]
    assert sink.getvalue()[4000:] == TEXT[4000:]
    swapped = blob[:a] + blob[c:d] + blob[a:b] + blob[d:]
    with pytest.raises(ContainerError, match="block 1 stands where block 0 should be"):
        decode_bytes(swapped)
    found = recover_stream(io.BytesIO(swapped), sink := io.BytesIO())
    assert (sink.getvalue(), found.missing) == (TEXT, [])


@pytest.mark.parametrize("extra", [-1, -40, -100, 1, 40])
def test_bytes_lost_or_inserted_in_a_block_harm_no_other(extra):
    blob = encode_bytes(TEXT, config=SMALL_BLOCKS)
    begin, end = _block_spans(blob)[1]
    at = begin + 24 + 100
    moved = blob[:at] + bytes(max(extra, 0)) + blob[at + max(-extra, 0) :]
    assert at + max(-extra, 0) < end
    sink = io.BytesIO()
    found = recover_stream(io.BytesIO(moved), sink)
    ((first, last),) = found.missing
    assert 4000 <= first < last == 8000
    assert sink.getvalue()[:first] + sink.getvalue()[last:] == TEXT[:first] + TEXT[last:]


def test_records_of_another_file_are_not_accepted(monkeypatch):
    inner = encode_bytes(TEXT[:3000], config=CodecConfig(block_bytes=800, segment_bytes=200))
    monkeypatch.setattr(block, "finish", lambda coder, buffer: len(buffer))
    blob = bytearray(encode_bytes(inner))
    assert inner in blob
    del blob[blob.index(inner) + 20]
    found = recover_stream(io.BytesIO(bytes(blob)), io.BytesIO())
    assert found.missing == [(0, len(inner))]


def test_a_crafted_file_does_not_keep_the_scanner_busy():
    header = container.Header(100, 100)
    fake = container.END + (1 << 24).to_bytes(4, "little") + bytes(28)
    found = list_blocks(io.BytesIO(header.to_bytes() + fake * 20_000))
    assert "looks like records" in found.damage[-1]
    assert len(found.damage) < 100


def test_recovery_has_a_limit():
    claims = container.Header(4, 4, 1 << 40).to_bytes()
    sink = io.BytesIO()
    with pytest.raises(ContainerError, match=r"1,099,511,627,776 bytes, but at most 1,000"):
        recover_stream(io.BytesIO(claims), sink, most_bytes=1000)
    assert sink.getvalue() == b""
    blob = encode_bytes(TEXT, config=SMALL_BLOCKS)
    with pytest.raises(ContainerError, match="at most 5,000 may be written"):
        recover_stream(io.BytesIO(blob), io.BytesIO(), most_bytes=5000)


def test_other_files_and_versions_are_refused():
    with pytest.raises(ContainerError, match="not a BitTransformer container"):
        decode_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ContainerError, match="nothing"):
        decode_bytes(b"")
    blob = bytearray(encode_bytes(b"x"))
    for place, name in ((8, "format"), (10, "arithmetic")):
        for step, age in ((1, "a newer"), (-1, "an older")):
            other = bytearray(blob)
            ours = "2 and 3" if name == "format" else "2"
            found = blob[place] + 2 * step if name == "format" else blob[place] + step
            other[place] = found
            said = f"{name} version {found}, this program reads {ours}; install {age}"
            with pytest.raises(ContainerVersionError, match=said):
                decode_bytes(bytes(other[:40]))
    blob[11] |= 2
    with pytest.raises(ContainerVersionError, match="flags 0x2"):
        decode_bytes(bytes(blob[:40]))


def _recover(blob: bytes, shared: Shared) -> None:
    recover_stream(io.BytesIO(blob), io.BytesIO(), shared=shared)


def test_another_model_or_dictionary_is_refused(shared_by_mode):
    hybrid, other = shared_by_mode["hybrid"], shared_by_mode["reversible"]
    blob = encode_bytes(b"some bytes", shared=hybrid)
    with pytest.raises(ModelMismatchError, match="give the run"):
        decode_bytes(blob)
    with pytest.raises(ModelMismatchError, match="the one given has"):
        decode_bytes(blob, shared=other)
    for refuse in (lambda b: decode_bytes(b, shared=hybrid), lambda b: _recover(b, hybrid)):
        with pytest.raises(ModelMismatchError, match="without a model; decompress it without"):
            refuse(encode_bytes(b"some bytes"))
    primed = encode(None, b"some bytes", given=b"before")
    for dictionary in (b"", b"others"):
        with pytest.raises(ModelMismatchError, match="use the same --given"):
            decode(None, primed, given=dictionary)


def test_a_machine_that_computes_differently_is_noticed(monkeypatch):
    blob = encode_bytes(TEXT[:200])
    real = block.code_patches

    def faulty(coder, buffer, tables, *rest):
        tables.order_0[1] += 1 << 28
        real(coder, buffer, tables, *rest)

    monkeypatch.setattr(block, "code_patches", faulty)
    with pytest.raises(ContainerError, match="computes differently"):
        decode_bytes(blob)
    found = recover_stream(io.BytesIO(blob), sink := io.BytesIO())
    assert found.missing == [(0, 200)]
    assert sink.getvalue() == bytes(200)


def test_a_file_that_claims_too_much_is_refused():
    huge = container.Header(1, 1, 1 << 60).to_bytes()
    with pytest.raises(ContainerError, match="at most"):
        decode_bytes(huge)
    header = container.Header(1, 1)
    claims = header.to_bytes() + container.End(1 << 40, bytes(16), ()).to_bytes(header)
    found = recover_stream(io.BytesIO(claims), io.BytesIO())
    assert found.raw_bytes == 0
    assert found.damage
    cut = container.Header(4, 4, 1 << 16).to_bytes()
    assert recover_stream(io.BytesIO(cut), io.BytesIO()).missing == [(0, 1 << 16)]
    huge = container.Header(4, 4, 1 << 42).to_bytes()
    found = recover_stream(io.BytesIO(huge), sink := io.BytesIO())
    assert (sink.getvalue(), found.raw_bytes, found.missing) == (b"", 0, [])
    assert "more than 32 bytes can hold" in found.damage[-1]


def test_verification_finds_a_block_that_does_not_decode(monkeypatch):
    monkeypatch.setattr(encoding.BlockCoder, "decode", lambda self, segment: False)
    sink = io.BytesIO()
    with pytest.raises(VerificationError, match="block 0"):
        compress_stream(io.BytesIO(TEXT), sink)
    assert container.BLOCK not in sink.getvalue()


@pytest.mark.parametrize(
    "settings_",
    [{"block_bytes": 0}, {"segment_bytes": 1 << 29}, {"lanes": 2000}, {"table_bits": 30}],
    ids=str,
)
def test_settings_have_limits(settings_):
    with pytest.raises(ConfigError, match="must be in"):
        CodecConfig(**settings_)


@pytest.mark.parametrize("size", [0, 8, 12])
def test_a_file_of_another_length_than_expected_makes_a_whole_one(size):
    done = compress_stream(io.BytesIO(bytes(size)), sink := io.BytesIO(), length=10)
    assert done.raw_bytes == size
    assert decode_bytes(sink.getvalue()) == bytes(size)
    found = recover_stream(io.BytesIO(sink.getvalue()), io.BytesIO())
    assert (found.raw_bytes, found.damage, found.missing) == (size, [], [])


def test_a_listing_tells_how_a_file_is_made(shared_by_mode):
    shared = shared_by_mode["hybrid"]
    config = CodecConfig(block_bytes=300, segment_bytes=300)
    blob = encode_bytes(TEXT[:500], shared=shared, config=config)
    listing = list_blocks(io.BytesIO(blob))
    assert [member.network for member in listing.members] == [shared.network_digest.hex()]
    assert [row.raw_bytes for row in listing.blocks] == [300, 200]
    assert listing.raw_bytes == 500
    assert listing.damage == []


def test_networks_of_one_digest_are_one(shared_by_mode):
    again = LaneNetwork(reference_network())
    assert again.digest == shared_by_mode["hybrid"].network_digest
