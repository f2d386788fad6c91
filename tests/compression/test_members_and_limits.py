"""Tests of files with several members, of damaged headers, and of files that claim too much."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bit_transformer.compression import block, container, memory_limit
from bit_transformer.compression.block import BlockShape, memory_of
from bit_transformer.compression.config import CodecConfig
from bit_transformer.compression.contexts import CONTEXTS
from bit_transformer.compression.decoding import (
    decode_bytes,
    decompress_stream,
    list_blocks,
    recover_stream,
)
from bit_transformer.compression.encoding import compress_stream, encode_bytes, memory_to_compress
from bit_transformer.compression.memory_limit import parse_size
from bit_transformer.compression.tables import new_tables
from bit_transformer.errors import ConfigError, ContainerError, MemoryLimitError

A = b"".join(b"%d sheep jump over %d fences, " % (n, n * n % 17) for n in range(60))
B = b"".join(b"line %d of another file\n" % n for n in range(50))
CONFIG = CodecConfig(block_bytes=700, segment_bytes=200, verify=False)


@pytest.fixture(scope="module")
def two() -> tuple[bytes, bytes]:
    return encode_bytes(A, config=CONFIG), encode_bytes(B, config=CONFIG)


def _recovered(blob: bytes):
    found = recover_stream(io.BytesIO(blob), sink := io.BytesIO())
    return sink.getvalue(), found


class _Stream(io.RawIOBase):
    """A source that cannot seek, like a pipe."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def read(self, size=-1):
        return self._rest.read(size)

    def seekable(self):
        return False


def test_files_that_follow_each_other_are_all_given_back(two):
    empty = encode_bytes(b"")
    blob = two[0] + empty + two[1]
    assert decode_bytes(blob) == A + B
    assert decompress_stream(_Stream(blob), io.BytesIO()) == len(A + B)
    content, found = _recovered(blob)
    assert (content, found.damage, found.missing) == (A + B, [], [])
    listing = list_blocks(io.BytesIO(blob))
    assert [sum(b.raw_bytes for b in m.blocks) for m in listing.members] == [len(A), 0, len(B)]
    assert listing.damage == []


@settings(deadline=None, max_examples=20)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_any_number_of_members_come_back(contents):
    blob = b"".join(encode_bytes(one, config=CONFIG) for one in contents)
    assert decode_bytes(blob) == b"".join(contents)


def test_a_flipped_bit_in_the_header_loses_nothing(two):
    size = len(container.Header(700, 200, len(A)).to_bytes())
    for bit in range(8 * size):
        damaged = bytearray(two[0])
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContainerError, match="--recover saves what can be saved"):
            decode_bytes(bytes(damaged))
        content, found = _recovered(bytes(damaged))
        assert (content, found.missing) == (A, [])
        assert len(found.damage) == 1


@pytest.mark.parametrize("lost", [0, 10, 32, 40])
def test_a_file_without_its_beginning_gives_its_blocks_back(two, lost):
    """The end record holds a second header, which replaces a lost one."""
    content, found = _recovered(two[0][lost:] + two[1])
    assert content[len(A) :] == B
    assert found.missing == ([(0, 700)] if lost == 40 else [])


def test_of_a_second_file_neither_header_nor_end_is_needed(two):
    blob = bytearray(two[0] + two[1])
    blob[len(two[0]) + 3] ^= 4
    assert _recovered(bytes(blob))[0] == A + B
    content, found = _recovered(two[0][:-30] + two[1])
    assert content == A + B
    assert any("before the previous one has ended" in line for line in found.damage)
    content, found = _recovered(two[0] + b"some garbage" + two[1])
    assert content == A + B
    assert "something was appended" in found.damage[0]
    with pytest.raises(ContainerError, match="something was appended"):
        decode_bytes(two[0] + b"some garbage" + two[1])


def test_a_damaged_header_in_a_pipe_is_refused(two):
    damaged = b"\x88" + two[0][1:]
    with pytest.raises(ContainerError, match="not a BitTransformer container"):
        decompress_stream(_Stream(damaged), io.BytesIO())


def test_a_compressed_file_inside_a_damaged_one_is_not_a_member(two, monkeypatch):
    monkeypatch.setattr(block, "finish", lambda coder, buffer: len(buffer))
    inner = two[0] + bytes(-len(two[0]) % 8)
    data, size = inner * 3, len(inner)
    blob = encode_bytes(data, config=CodecConfig(size, size, verify=False))
    assert inner in blob
    for place in (blob.index(container.BLOCK), 0):
        damaged = bytearray(blob)
        damaged[place + 5] ^= 1
        content, found = _recovered(bytes(damaged))
        assert len(content) == len(data)
        assert content[size:] == data[size:]
        assert found.missing == ([(0, size)] if place else [])


def _crafted(shape: BlockShape, coded: bytes, *, index: int = 0) -> bytes:
    header = container.Header(shape.raw_bytes, shape.segment_bytes)
    opening = container.BlockHeader(index, shape, len(coded)).to_bytes(header)
    return header.to_bytes() + opening + coded


def test_a_block_holds_no_more_than_its_bytes_can_stand_for():
    blob = _crafted(BlockShape(1 << 28, 1 << 28, 1, 0, 24), bytes(40))
    with pytest.raises(ContainerError, match="record at byte 32 is damaged"):
        decode_bytes(blob)
    zeros = encode_bytes(bytes(2_000_000), config=CodecConfig(verify=False))
    assert 1000 * len(zeros) < 2_000_000 < container.MAX_PER_CODED_BYTE * len(zeros)


def test_a_table_larger_than_its_bytes_can_fill_is_refused():
    blob = _crafted(BlockShape(100_000, 1 << 16, 1, 0, 24), bytes(40))
    with pytest.raises(ContainerError, match=re.escape("a table of 2^24 entries, more than its")):
        decode_bytes(blob)
    content, found = _recovered(blob)
    assert content == b""
    assert "2^24" in found.damage[0]


def test_a_block_far_away_makes_no_file_full_of_holes():
    blob = _crafted(BlockShape(4000, 4000, 1, 0, 10), bytes(40), index=1 << 30)
    content, found = _recovered(blob)
    assert content == b""
    assert "which is more than 96 bytes can hold" in found.damage[0]


def test_memory_has_a_limit_in_both_directions(two):
    with pytest.raises(MemoryLimitError, match=r"compressing needs \d+ MiB .*--memory-limit"):
        compress_stream(io.BytesIO(A), sink := io.BytesIO(), memory_limit=1 << 20)
    assert sink.getvalue() == b""
    for work in (decompress_stream, recover_stream):
        with pytest.raises(MemoryLimitError, match=r"block 0 needs \d+ MiB of memory"):
            work(io.BytesIO(two[0]), io.BytesIO(), memory_limit=1 << 20)
    with pytest.raises(MemoryLimitError, match="reading block 0"):
        list_blocks(io.BytesIO(two[0]), memory_limit=10)
    decompress_stream(io.BytesIO(two[0]), io.BytesIO(), memory_limit=64 << 20)


@pytest.mark.parametrize("bits", [10, 18])
@pytest.mark.parametrize("network", [False, True])
def test_the_memory_reported_is_that_of_the_tables(bits, network):
    for profile, contexts in enumerate(CONTEXTS):
        shape = BlockShape(50_000, 1000, 1, profile, bits)
        tables = new_tables(50_010, bits, contexts, network=network)
        taken = sum(table.nbytes for table in tables)
        assert 0.98 * taken < memory_of(shape, 10, network=network) < 1.02 * taken


def test_levels_grow_in_memory():
    small = memory_to_compress(CodecConfig(), length=1000)
    assert small < 64 << 20 < memory_to_compress(CodecConfig())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("2g", 2 << 30),
        ("100k", 100 << 10),
        ("1 GB", 1 << 30),
        ("7", 7),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_as_xz_reads_them(text, size):
    assert parse_size(text) == size


def test_a_percentage_is_of_this_machine(monkeypatch):
    monkeypatch.setattr(memory_limit, "machine_memory", lambda: 8 << 30)
    assert parse_size("50%") == memory_limit.default_memory_limit() == 4 << 30


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1.5G", "5 %%"])
def test_malformed_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="a size must be"):
        parse_size(text)
