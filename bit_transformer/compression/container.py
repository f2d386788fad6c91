"""The container format: header, blocks, end record. docs/formats/compressed.md has every field.

Every byte is covered by a checksum, so that flipped, cut, appended and moved bytes are detected. A
block's header says where the next block begins, so that damage to one leaves the others readable.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from bit_transformer.compression.block import BlockShape, Segment
from bit_transformer.compression.config import (
    MAX_BLOCK_BYTES,
    MAX_LANES,
    MAX_TABLE_BITS,
    MIN_TABLE_BITS,
)
from bit_transformer.compression.contexts import CONTEXTS
from bit_transformer.errors import ContainerError, ContainerVersionError

MAGIC = b"\x89BTZ\r\n\x1a\n"
"""As in PNG, the mark is not valid text, and a transfer in text mode destroys it."""
BLOCK, END = b"\x89BLK", b"\x89END"
VERSION, VERSIONS = 3, (2, 3)
"""The version of the format that is written, and those that are read. Version 2 has no second
header in its end record."""
ARITHMETIC = 2
"""The version of the predictions. Any change to the mixer or to a network's step needs another."""
MIXER, HYBRID = 0, 1
"""Modes: mixing alone, or mixing with a network."""
MAX_LENGTH = 1 << 50
"""Bytes of an original."""
UNKNOWN_LENGTH = (1 << 64) - 1

_HAS_DICTIONARY = 1
"""Flag: the codec learned a dictionary first."""
_HEADER = struct.Struct("<8sBBBBIIQ")
_BLOCK = struct.Struct("<4sIIIHBB")
_SEGMENT = struct.Struct("<III")
_STORED = 1 << 31
_MAX_CODED_PER_BYTE = _SEGMENT.size + 1
"""A segment of a single byte, stored behind its header, takes this many bytes."""
_END = struct.Struct("<4sIQ16s")
_ROW = struct.Struct("<II")
_CRC = struct.Struct("<I")
_NETWORK_DIGEST_BYTES, DIGEST_BYTES = 32, 16
BLOCK_HEADER_BYTES = _BLOCK.size + _CRC.size
MAX_HEADER_BYTES = _HEADER.size + _NETWORK_DIGEST_BYTES + DIGEST_BYTES + _CRC.size
END_OPENING_BYTES = _END.size + MAX_HEADER_BYTES - len(MAGIC)
"""Length of an end record's first part, up to the copy of the longest header."""
MAX_PER_CODED_BYTE = 3000
"""One byte of a block stands for at most this many. With the most confident prediction a bit costs
log2(65536 / 65520) bits, which is 2840 bytes per byte; the segments' headers cover the rounding."""
_MAX_ROWS = 1 << 24


@runtime_checkable
class Source(Protocol):
    """A file or stream to read from."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; nothing only at the end."""


@runtime_checkable
class Sink(Protocol):
    """A file or stream to write to."""

    def write(self, content: bytes, /) -> object:
        """Write all of the bytes."""


@runtime_checkable
class SeekableSource(Source, Protocol):
    """A source that can be read again."""

    def seek(self, offset: int, /) -> object:
        """Continue to read at this offset."""

    def seekable(self) -> bool:
        """Return whether `seek` works."""


@runtime_checkable
class SeekableSink(Sink, Protocol):
    """A sink that can be written out of order."""

    def seek(self, offset: int, /) -> object:
        """Continue to write at this offset."""


@dataclass(frozen=True)
class Header:
    """The header of a file, which describes all of its blocks."""

    block_bytes: int
    """Bytes of the original in each block but the last."""
    segment_bytes: int
    length: int | None = None
    """Bytes of the original, if that was known beforehand."""
    network_digest: bytes = b""
    """SHA-256 of the network (see `lane_network.network_digest`). Empty without a network."""
    dictionary_digest: bytes = b""
    """BLAKE2b-128 of the dictionary. Empty without a dictionary."""
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Return the header as it is written."""
        mode = HYBRID if self.network_digest else MIXER
        flags = _HAS_DICTIONARY if self.dictionary_digest else 0
        length = UNKNOWN_LENGTH if self.length is None else self.length
        sizes = (self.block_bytes, self.segment_bytes, length)
        fixed = _HEADER.pack(MAGIC, self.version, mode, ARITHMETIC, flags, *sizes)
        return _with_crc(fixed + self.network_digest + self.dictionary_digest)

    @cached_property
    def crc(self) -> int:
        """The header's checksum. The checksums of all records continue from it, so that records of
        other files do not pass for this file's."""
        return int.from_bytes(self.to_bytes()[-_CRC.size :], "little")

    @cached_property
    def copy(self) -> bytes:
        """The second header in the end record: everything but the opening mark."""
        return b"" if self.version == 2 else self.to_bytes()[len(MAGIC) :]


@dataclass(frozen=True)
class BlockHeader:
    """The header of a block, which precedes its segments."""

    index: int
    shape: BlockShape
    coded_bytes: int
    """Bytes of all its segments with their headers."""

    def to_bytes(self, header: Header) -> bytes:
        """Return the block header as it is written in a file with this header."""
        shape = self.shape
        return _with_crc(
            _BLOCK.pack(
                BLOCK,
                self.index,
                shape.raw_bytes,
                self.coded_bytes,
                shape.lanes,
                shape.profile,
                shape.table_bits,
            ),
            header.crc,
        )


@dataclass(frozen=True)
class End:
    """The end record, which follows the last block."""

    length: int
    """Bytes of the original."""
    digest: bytes
    """BLAKE2b-128 of the original."""
    rows: tuple[tuple[int, int], ...]
    """(raw bytes, coded bytes) of each block."""

    def to_bytes(self, header: Header) -> bytes:
        """Return the end record as it is written in a file with this header."""
        table = b"".join(_ROW.pack(*row) for row in self.rows)
        fixed = _END.pack(END, len(self.rows), self.length, self.digest)
        return _with_crc(fixed + header.copy + table, header.crc)

    def begins_at(self, header: Header) -> int:
        """Return where this record begins, counted from the file's header on."""
        blocks = sum(BLOCK_HEADER_BYTES + coded for _, coded in self.rows)
        return len(header.to_bytes()) + blocks


def digest_of(data: bytes = b"") -> "hashlib.blake2b":
    """Return the digest of originals and dictionaries, which can be updated with further bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES)


def parse_header(content: bytes) -> tuple[Header, int]:
    """Return the header that these bytes begin with, and its length.

    `MAX_HEADER_BYTES` bytes are enough. Raises `ContainerError` unless they begin with a header,
    and `ContainerVersionError` for another version of the format.
    """
    fixed = content[: _HEADER.size]
    if fixed[: len(MAGIC)] != MAGIC:
        raise ContainerError(
            "not a BitTransformer container: the file begins with "
            f"{fixed[:8].hex(' ') or 'nothing'}, not with {MAGIC.hex(' ')}"
        )
    if len(fixed) < _HEADER.size:
        raise ContainerError(f"the file was cut within its header, after {len(fixed)} bytes")
    _, version, mode, arithmetic, flags, block_bytes, segment_bytes, length = _HEADER.unpack(fixed)
    _check_versions(version, arithmetic, flags)
    network_end = _HEADER.size + (_NETWORK_DIGEST_BYTES if mode == HYBRID else 0)
    end = network_end + (DIGEST_BYTES if flags & _HAS_DICTIONARY else 0)
    if not _crc_matches(content[:end], content[end : end + _CRC.size]):
        raise ContainerError("the header is damaged: its checksum does not match")
    if mode > HYBRID or not 1 <= segment_bytes <= block_bytes <= MAX_BLOCK_BYTES:
        raise ContainerError(
            f"the header must have mode 0 or 1 and segments <= blocks <= {MAX_BLOCK_BYTES} bytes, "
            f"got mode {mode}, segments of {segment_bytes} and blocks of {block_bytes} bytes"
        )
    known = None if length == UNKNOWN_LENGTH else length
    if known is not None and known > MAX_LENGTH:
        raise ContainerError(f"the header claims {known} bytes; at most {MAX_LENGTH} are allowed")
    digests = content[_HEADER.size : network_end], content[network_end:end]
    return Header(block_bytes, segment_bytes, known, *digests, version), end + _CRC.size


def parse_copy(content: bytes) -> Header | None:
    """Return the second header in the end record that these bytes begin with, if there is one."""
    try:
        return parse_header(MAGIC + content[_END.size :])[0]
    except (ContainerError, ContainerVersionError):
        return None


def _check_versions(version: int, arithmetic: int, flags: int) -> None:
    both = (("format", version, VERSIONS), ("arithmetic", arithmetic, (ARITHMETIC,)))
    for name, found, known in both:
        if found not in known:
            age = "a newer" if found > max(known) else "an older"
            raise ContainerVersionError(
                f"the file has {name} version {found}, this program reads "
                f"{' and '.join(map(str, known))}; install {age} bit-transformer"
            )
    if flags & ~_HAS_DICTIONARY:
        raise ContainerVersionError(
            f"the file has flags {flags:#x}, this program knows only {_HAS_DICTIONARY:#x}; install "
            "a newer bit-transformer"
        )


def parse_block_header(content: bytes, header: Header) -> BlockHeader | None:
    """Return the block header that these bytes are; None if they are something else or damaged."""
    if not _crc_matches(content[: _BLOCK.size], content[_BLOCK.size :], header.crc):
        return None
    marker, index, raw, coded, lanes, profile, table_bits = _BLOCK.unpack(content[: _BLOCK.size])
    fits = (
        marker == BLOCK
        and 1 <= raw <= header.block_bytes
        and index * header.block_bytes < MAX_LENGTH
        and coded <= _MAX_CODED_PER_BYTE * raw
        and raw <= MAX_PER_CODED_BYTE * coded
        and 1 <= lanes <= min(raw, MAX_LANES)
        and profile < len(CONTEXTS)
        and MIN_TABLE_BITS <= table_bits <= MAX_TABLE_BITS
    )
    if not fits:
        return None
    shape = BlockShape(raw, header.segment_bytes, lanes, profile, table_bits)
    return BlockHeader(index, shape, coded)


def end_record_bytes(opening: bytes, header: Header) -> int:
    """Return the length of the end record that begins with these bytes."""
    minimum = _END.size + len(header.copy) + _CRC.size
    if len(opening) < _END.size:
        return minimum
    blocks = int(_END.unpack(opening[: _END.size])[1])
    return minimum + min(blocks, _MAX_ROWS) * _ROW.size


def parse_end(content: bytes, header: Header) -> End | None:
    """Return the end record that these bytes are; None if it is damaged."""
    minimum = _END.size + len(header.copy) + _CRC.size
    if len(content) < minimum or not _crc_matches(
        content[: -_CRC.size], content[-_CRC.size :], header.crc
    ):
        return None
    _, blocks, length, digest = _END.unpack(content[: _END.size])
    table = content[_END.size + len(header.copy) : -_CRC.size]
    rows = tuple(_ROW.iter_unpack(table)) if len(table) == blocks * _ROW.size else ()
    if len(rows) != blocks or sum(raw for raw, _ in rows) != length or length > MAX_LENGTH:
        return None
    return End(length, digest, rows)


def segment_bytes(segment: Segment) -> bytes:
    """Return a segment as it is written."""
    size = len(segment.payload) | (_STORED if segment.stored else 0)
    checked = struct.pack("<II", size, segment.raw_crc)
    return checked + _CRC.pack(zlib.crc32(segment.payload, zlib.crc32(checked))) + segment.payload


def split_segments(content: bytes) -> tuple[list[Segment], int]:
    """Return the segments of a block up to the first damaged one, and their length in bytes."""
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


def _with_crc(content: bytes, begin: int = 0) -> bytes:
    return content + _CRC.pack(zlib.crc32(content, begin))


def _crc_matches(content: bytes, crc: bytes, begin: int = 0) -> bool:
    return crc == _CRC.pack(zlib.crc32(content, begin))
