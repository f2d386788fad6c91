"""The compressed file, as bytes: header, blocks, end. docs/formats/compressed.md has every field.

Everything in the file is under a checksum, so that whatever was flipped, cut, appended or moved is
found; and a block tells where the next one begins, so that damage in one is not damage in others.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from bit_transformer.compression.block import BlockShape, Segment
from bit_transformer.compression.config import (
    LEAST_TABLE_BITS,
    MAX_LANES,
    MOST_BLOCK_BYTES,
    MOST_TABLE_BITS,
)
from bit_transformer.compression.contexts import CONTEXTS
from bit_transformer.errors import ContainerError, ContainerVersionError

MAGIC = b"\x89BTZ\r\n\x1a\n"
"""No text, and not what is left of itself after a transfer as text (as in PNG)."""
BLOCK, END = b"\x89BLK", b"\x89END"
VERSION, VERSIONS = 3, (2, 3)
"""Of the format: the one that is written, and those that are read. Version 2 keeps no second
header."""
ARITHMETIC = 2
"""Which predictions: another mixer, or another way to run a network, is another number."""
MIXER, HYBRID = 0, 1
"""Modes."""
MOST_LENGTH = 1 << 50
"""Of an original, in bytes."""
UNKNOWN_LENGTH = (1 << 64) - 1

_GIVEN = 1
"""Flag: something was given beforehand."""
_HEADER = struct.Struct("<8sBBBBIIQ")
_BLOCK = struct.Struct("<4sIIIHBB")
_SEGMENT = struct.Struct("<III")
_STORED = 1 << 31
_MOST_CODED = _SEGMENT.size + 1
"""Bytes for one of the original: a segment of a single byte, stored behind its header."""
_END = struct.Struct("<4sIQ16s")
_ROW = struct.Struct("<II")
_CRC = struct.Struct("<I")
_NETWORK_DIGEST, GIVEN_DIGEST_BYTES = 32, 16
BLOCK_HEADER_BYTES = _BLOCK.size + _CRC.size
MOST_HEADER_BYTES = _HEADER.size + _NETWORK_DIGEST + GIVEN_DIGEST_BYTES + _CRC.size
END_OPENING_BYTES = _END.size + MOST_HEADER_BYTES - len(MAGIC)
"""Of an end record, with the longest header."""
MOST_PER_CODED_BYTE = 3000
"""Bytes that one byte of a block can stand for: a bit costs at least log2(65536 / 65520) bits, for
no prediction is surer, which makes 2840; and a segment's header pays for what its end leaves."""
_MOST_ROWS = 1 << 24


@runtime_checkable
class Source(Protocol):
    """Where bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes, fewer only at the end."""


@runtime_checkable
class Sink(Protocol):
    """Where bytes are written to."""

    def write(self, content: bytes, /) -> object:
        """Append all of it."""


@runtime_checkable
class SeekableSource(Source, Protocol):
    """Where bytes can be read again."""

    def seek(self, offset: int, /) -> object:
        """Read from there on."""

    def seekable(self) -> bool:
        """Whether that can be done."""


@runtime_checkable
class SeekableSink(Sink, Protocol):
    """Where bytes can also be written out of order."""

    def seek(self, offset: int, /) -> object:
        """Write from there on."""


@dataclass(frozen=True)
class Header:
    """What holds for the whole file."""

    block_bytes: int
    """Of the original in each block but the last."""
    segment_bytes: int
    length: int | None = None
    """Of the original in bytes, where it was known beforehand."""
    network_digest: bytes = b""
    """SHA-256 of the network (see `lane_network.network_digest`); empty: the mixer alone."""
    given_digest: bytes = b""
    """BLAKE2b-128 of what was given beforehand; empty: nothing."""
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """As it is written."""
        mode, flags = HYBRID if self.network_digest else MIXER, _GIVEN if self.given_digest else 0
        length = UNKNOWN_LENGTH if self.length is None else self.length
        sizes = (self.block_bytes, self.segment_bytes, length)
        fixed = _HEADER.pack(MAGIC, self.version, mode, ARITHMETIC, flags, *sizes)
        return _sealed(fixed + self.network_digest + self.given_digest)

    @cached_property
    def seal(self) -> int:
        """The header's checksum, with which those of records begin, so that records of other files
        are none here."""
        return int.from_bytes(self.to_bytes()[-_CRC.size :], "little")

    @cached_property
    def copy(self) -> bytes:
        """What the end record keeps of it: all but the opening mark."""
        return b"" if self.version == 2 else self.to_bytes()[len(MAGIC) :]


@dataclass(frozen=True)
class BlockHeader:
    """What stands before the segments of a block."""

    index: int
    shape: BlockShape
    coded_bytes: int
    """Of all its segments with their headers."""

    def to_bytes(self, header: Header) -> bytes:
        """As it is written in a file with this header."""
        shape = self.shape
        return _sealed(
            _BLOCK.pack(
                BLOCK,
                self.index,
                shape.raw_bytes,
                self.coded_bytes,
                shape.lanes,
                shape.profile,
                shape.table_bits,
            ),
            header.seal,
        )


@dataclass(frozen=True)
class End:
    """What stands behind the last block."""

    length: int
    """Of the original in bytes."""
    digest: bytes
    """BLAKE2b-128 of the original."""
    rows: tuple[tuple[int, int], ...]
    """(raw bytes, coded bytes) of each block."""

    def to_bytes(self, header: Header) -> bytes:
        """As it is written in a file with this header."""
        table = b"".join(_ROW.pack(*row) for row in self.rows)
        fixed = _END.pack(END, len(self.rows), self.length, self.digest)
        return _sealed(fixed + header.copy + table, header.seal)

    def begins_before(self, header: Header) -> int:
        """How many bytes of the file, from its header on, stand before this record."""
        blocks = sum(BLOCK_HEADER_BYTES + coded for _, coded in self.rows)
        return len(header.to_bytes()) + blocks


def digest_of(data: bytes = b"") -> "hashlib.blake2b":
    """The digest of originals and of what was given, to be continued or read."""
    return hashlib.blake2b(data, digest_size=GIVEN_DIGEST_BYTES)


def parse_header(content: bytes) -> tuple[Header, int]:
    """The header that these bytes begin with, and how long it is.

    `MOST_HEADER_BYTES` are enough. Raises `ContainerError` for what is no container,
    `ContainerVersionError` for one of another version.
    """
    fixed = content[: _HEADER.size]
    if fixed[: len(MAGIC)] != MAGIC:
        raise ContainerError(
            "this is not a compressed file of bit-transformer: it begins with "
            f"{fixed[:8].hex(' ') or 'nothing'}, not with {MAGIC.hex(' ')}"
        )
    if len(fixed) < _HEADER.size:
        raise ContainerError(f"the file ends within its header, after {len(fixed)} bytes")
    _, version, mode, arithmetic, flags, block_bytes, segment_bytes, length = _HEADER.unpack(fixed)
    _check_versions(version, arithmetic, flags)
    network_end = _HEADER.size + (_NETWORK_DIGEST if mode == HYBRID else 0)
    end = network_end + (GIVEN_DIGEST_BYTES if flags & _GIVEN else 0)
    if not _seal_holds(content[:end], content[end : end + _CRC.size]):
        raise ContainerError("the header is damaged: its checksum does not fit")
    if mode > HYBRID or not 1 <= segment_bytes <= block_bytes <= MOST_BLOCK_BYTES:
        raise ContainerError(
            f"the header asks for mode {mode}, blocks of {block_bytes} and segments of "
            f"{segment_bytes} bytes; a block has at most {MOST_BLOCK_BYTES}"
        )
    known = None if length == UNKNOWN_LENGTH else length
    if known is not None and known > MOST_LENGTH:
        raise ContainerError(f"the header speaks of {known} bytes, {MOST_LENGTH} are the most")
    network, given = content[_HEADER.size : network_end], content[network_end:end]
    return Header(block_bytes, segment_bytes, known, network, given, version), end + _CRC.size


def parse_copy(content: bytes) -> Header | None:
    """The header kept in the end record that these bytes begin with, if one is."""
    try:
        return parse_header(MAGIC + content[_END.size :])[0]
    except (ContainerError, ContainerVersionError):
        return None


def _check_versions(version: int, arithmetic: int, flags: int) -> None:
    both = (("format", version, VERSIONS), ("arithmetic", arithmetic, (ARITHMETIC,)))
    for name, found, ours in both:
        if found not in ours:
            age = "a newer" if found > max(ours) else "an older"
            raise ContainerVersionError(
                f"the file has {name} version {found}, this program reads "
                f"{' and '.join(map(str, ours))}; install {age} bit-transformer"
            )
    if flags & ~_GIVEN:
        raise ContainerVersionError(
            f"the file has flags {flags:#x}, of which this program knows {_GIVEN:#x}; install a "
            "newer bit-transformer"
        )


def parse_block_header(content: bytes, header: Header) -> BlockHeader | None:
    """The block header that these bytes are, None where they are none or damaged."""
    if not _seal_holds(content[: _BLOCK.size], content[_BLOCK.size :], header.seal):
        return None
    marker, index, raw, coded, lanes, profile, table_bits = _BLOCK.unpack(content[: _BLOCK.size])
    fits = (
        marker == BLOCK
        and 1 <= raw <= header.block_bytes
        and index * header.block_bytes < MOST_LENGTH
        and coded <= _MOST_CODED * raw
        and raw <= MOST_PER_CODED_BYTE * coded
        and 1 <= lanes <= min(raw, MAX_LANES)
        and profile < len(CONTEXTS)
        and LEAST_TABLE_BITS <= table_bits <= MOST_TABLE_BITS
    )
    if not fits:
        return None
    shape = BlockShape(raw, header.segment_bytes, lanes, profile, table_bits)
    return BlockHeader(index, shape, coded)


def end_record_bytes(opening: bytes, header: Header) -> int:
    """How long the end record is that these bytes begin."""
    least = _END.size + len(header.copy) + _CRC.size
    if len(opening) < _END.size:
        return least
    blocks = int(_END.unpack(opening[: _END.size])[1])
    return least + min(blocks, _MOST_ROWS) * _ROW.size


def parse_end(content: bytes, header: Header) -> End | None:
    """The end record that these bytes are, None where it is damaged."""
    least = _END.size + len(header.copy) + _CRC.size
    if len(content) < least or not _seal_holds(
        content[: -_CRC.size], content[-_CRC.size :], header.seal
    ):
        return None
    _, blocks, length, digest = _END.unpack(content[: _END.size])
    table = content[_END.size + len(header.copy) : -_CRC.size]
    rows = tuple(_ROW.iter_unpack(table)) if len(table) == blocks * _ROW.size else ()
    if len(rows) != blocks or sum(raw for raw, _ in rows) != length or length > MOST_LENGTH:
        return None
    return End(length, digest, rows)


def segment_bytes(segment: Segment) -> bytes:
    """A segment as it is written."""
    size = len(segment.payload) | (_STORED if segment.stored else 0)
    checked = struct.pack("<II", size, segment.raw_crc)
    return checked + _CRC.pack(zlib.crc32(segment.payload, zlib.crc32(checked))) + segment.payload


def split_segments(content: bytes) -> tuple[list[Segment], int]:
    """The segments of a block up to the first damaged one, and how many bytes they are."""
    found: list[Segment] = []
    at = 0
    while at + _SEGMENT.size <= len(content):
        size, raw_crc, crc = _SEGMENT.unpack_from(content, at)
        begin, end = at + _SEGMENT.size, at + _SEGMENT.size + (size & ~_STORED)
        payload = content[begin:end]
        if end > len(content) or crc != zlib.crc32(payload, zlib.crc32(content[at : at + 8])):
            break
        found.append(Segment(payload, bool(size & _STORED), raw_crc))
        at = end
    return found, at


def _sealed(content: bytes, begin: int = 0) -> bytes:
    return content + _CRC.pack(zlib.crc32(content, begin))


def _seal_holds(content: bytes, seal: bytes, begin: int = 0) -> bool:
    return seal == _CRC.pack(zlib.crc32(content, begin))
