"""Decompresses files and streams, and saves what can be saved of damaged ones."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bit_transformer.compression.block import BlockCoder, Progress, Segment
from bit_transformer.compression.container import (
    BLOCK,
    BLOCK_HEADER_BYTES,
    END,
    END_BYTES,
    MOST_LENGTH,
    BlockHeader,
    End,
    Header,
    SeekableSink,
    Sink,
    Source,
    digest_of,
    end_record_bytes,
    parse_block_header,
    parse_end,
    read_header,
    split_segments,
)
from bit_transformer.compression.encoding import NOTHING_SHARED, Shared, share
from bit_transformer.compression.network import HoldsNetwork
from bit_transformer.compression.self_test import check_arithmetic
from bit_transformer.errors import ContainerError, ModelMismatchError

_PIECE_BYTES = 1 << 16
_MARKER = re.compile(b"|".join(map(re.escape, (BLOCK, END))))
_MOST_IN_VAIN = 8
"""Times the bytes of a file that are looked at again after damage; files made to take for ever
would have more."""


@dataclass
class Recovered:
    """What decompression came to."""

    raw_bytes: int = 0
    """Written, filling included."""
    damage: list[str] = field(default_factory=list)
    """What was found wrong, in the order of the file."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """(begin, end) of what could not be recovered, in the original; zeros are written there."""


def decompress_stream(
    source: Source,
    sink: Sink,
    *,
    shared: Shared = NOTHING_SHARED,
    progress: Progress | None = None,
) -> int:
    """Decompress a file; how many bytes came out.

    Raises `ContainerError` for what is no container or is damaged, naming block and place,
    `ContainerVersionError`, and `ModelMismatchError` for another model or other bytes given.
    Bytes are written a block at a time, each checked.
    """
    check_arithmetic(network=shared.network is not None)
    scanner = _Scanner(source)
    header = read_header(scanner)
    _check_shared(header, shared)
    digest, rows = digest_of(), list[tuple[int, int]]()
    for record in scanner.records(header):
        if isinstance(record, _Damage):
            raise ContainerError(f"{record.what}; --recover saves what can be saved")
        if isinstance(record, End):
            _check_end(record, End(sum(raw for raw, _ in rows), digest.digest(), tuple(rows)))
            continue
        if record.header.index != len(rows):
            raise ContainerError(
                f"block {record.header.index} stands where block {len(rows)} should be; --recover "
                "puts blocks where they belong"
            )
        decoded, trouble = _decode_block(record, shared, progress)
        if trouble:
            raise ContainerError(f"{trouble}; --recover saves what can be saved")
        content = decoded.decoded().tobytes()
        sink.write(content)
        digest.update(content)
        rows.append((record.header.shape.raw_bytes, record.header.coded_bytes))
    return sum(raw for raw, _ in rows)


def recover_stream(
    source: Source,
    sink: SeekableSink,
    *,
    shared: Shared = NOTHING_SHARED,
    progress: Progress | None = None,
    most_bytes: int = MOST_LENGTH,
) -> Recovered:
    """Decompress what can be decompressed of a damaged file, into a file that can be seeked in.

    Raises as `decompress_stream` for a header that cannot be used: without it nothing can; and
    `ContainerError` where the original, by what is left, had more than `most_bytes`.
    """
    check_arithmetic(network=shared.network is not None)
    scanner = _Scanner(source)
    header = read_header(scanner)
    _check_shared(header, shared)
    found = Recovered()
    length, seen = header.length, set[int]()
    for record in scanner.records(header):
        if isinstance(record, _Damage):
            found.damage.append(record.what)
        elif isinstance(record, End):
            length = record.length
        elif record.header.index not in seen:
            seen.add(record.header.index)
            begin = record.header.index * header.block_bytes
            _require_at_most(most_bytes, begin + record.header.shape.raw_bytes)
            decoded, trouble = _decode_block(record, shared, progress)
            found.damage += [trouble] if trouble else []
            found.missing += [(begin + a, begin + b) for a, b in decoded.missing()]
            sink.seek(begin)
            sink.write(decoded.decoded().tobytes())
            found.raw_bytes = max(found.raw_bytes, begin + record.header.shape.raw_bytes)
    if length is not None and length > found.raw_bytes:
        _require_at_most(most_bytes, length)
        found.raw_bytes = length
        sink.seek(length - 1)
        sink.write(b"\0")
    found.missing = sorted(found.missing + _absent(seen, header.block_bytes, found.raw_bytes))
    return found


def _require_at_most(most_bytes: int, size: int) -> None:
    if size > most_bytes:
        raise ContainerError(
            f"the original had {size:,} bytes by what the file says, {most_bytes:,} are the most "
            "that may be written; recover it where more may be"
        )


def _absent(seen: set[int], block_bytes: int, length: int) -> list[tuple[int, int]]:
    """Stretches of whole blocks that are not among those seen."""
    found, begin = [], 0
    for index in [*sorted(seen), -(-length // block_bytes)]:
        end = min(index * block_bytes, length)
        if begin < end:
            found.append((begin, end))
        begin = (index + 1) * block_bytes
    return found


@dataclass(frozen=True)
class _Block:
    header: BlockHeader
    segments: list[Segment]
    """Up to the first damaged one."""
    whole: bool


@dataclass(frozen=True)
class _Damage:
    what: str


def _decode_block(
    block: _Block, shared: Shared, progress: Progress | None
) -> tuple[BlockCoder, str]:
    """The block as far as it can be decoded, and what is wrong with it."""
    header = block.header
    coder = BlockCoder(header.shape, network=shared.network, given=shared.given, progress=progress)
    for number, segment in enumerate(block.segments):
        if not coder.segments or not coder.decode(segment):
            return coder, (
                f"block {header.index}, segment {number} is as it was written, and yet decodes to "
                "other bytes: it was written by another program, or this machine computes "
                "differently"
            )
    if block.whole and not coder.segments:
        return coder, ""
    return coder, f"block {header.index} is damaged in its segment {len(block.segments)}"


class _Scanner:
    """Reads records; where one is damaged it looks for the next that is not."""

    def __init__(self, source: Source) -> None:
        self._source, self._held, self._begin, self._at = source, b"", 0, 0
        self._in_vain = 0
        """Bytes looked at for records that turned out to be none."""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end of the source."""
        taken = self._peek(size)
        self._drop(len(taken))
        return taken

    def _peek(self, size: int) -> bytes:
        """The same bytes, to be read again."""
        missing = size - (len(self._held) - self._begin)
        if missing > 0:
            pieces = [self._held[self._begin :]]
            while missing > 0 and (piece := self._source.read(_PIECE_BYTES)):
                pieces.append(piece)
                missing -= len(piece)
            self._held, self._begin = b"".join(pieces), 0
        return self._held[self._begin : self._begin + size]

    def _drop(self, size: int) -> None:
        self._begin += size
        self._at += size

    def records(self, header: Header) -> Iterator[_Block | _Damage | End]:
        """Blocks, what is wrong between them, and the end; nothing follows an end."""
        while opening := self._peek(BLOCK_HEADER_BYTES):
            at = self._at
            if self._in_vain > _MOST_IN_VAIN * (at + _PIECE_BYTES):
                yield _Damage(f"what follows byte {at} looks like records and holds none")
                return
            if block := parse_block_header(opening, header):
                yield self._block(block, header)
            elif opening.startswith(END) and (end := self._end(header)):
                yield end
                if extra := self.read(_PIECE_BYTES):
                    yield _Damage(
                        f"{len(extra)} bytes or more follow the end of the file at byte "
                        f"{self._at - len(extra)}: something was appended"
                    )
                return
            else:
                yield _Damage(f"the record at byte {at} is damaged")
                self._drop(1)
                self._skip()
        yield _Damage(f"the file ends at byte {self._at} without its end record: it was cut")

    def _block(self, block: BlockHeader, header: Header) -> _Block:
        """Go behind a block: to its end, or, where damage has moved that, to the next record."""
        content = self._peek(BLOCK_HEADER_BYTES + block.coded_bytes)[BLOCK_HEADER_BYTES:]
        segments, taken = split_segments(content)
        rest = len(content) - taken
        self._drop(BLOCK_HEADER_BYTES + taken)
        if taken == block.coded_bytes or self._record_follows(rest, header):
            self._drop(rest)
        else:
            self._in_vain += rest
            self._skip()
        return _Block(block, segments, taken == block.coded_bytes)

    def _record_follows(self, rest: int, header: Header) -> bool:
        opening = self._peek(rest + BLOCK_HEADER_BYTES)[rest:]
        return opening.startswith(END) or parse_block_header(opening, header) is not None

    def _end(self, header: Header) -> End | None:
        content = self._peek(end_record_bytes(self._peek(END_BYTES)))
        found = parse_end(content, header)
        if found is None:
            self._in_vain += len(content)
        else:
            self._drop(len(content))
        return found

    def _skip(self) -> None:
        """Go to the next marker from here on, or to the end."""
        while not (found := _MARKER.search(self._held, self._begin)):
            # The last bytes may be the first of a marker.
            kept = min(len(BLOCK) - 1, len(self._held) - self._begin)
            self._drop(len(self._held) - self._begin - kept)
            if len(self._peek(_PIECE_BYTES)) == kept:
                self._drop(kept)
                return
        self._drop(found.start() - self._begin)


@dataclass(frozen=True)
class ListedBlock:
    """One block of a listing."""

    index: int
    raw_bytes: int
    coded_bytes: int
    lanes: int


@dataclass(frozen=True)
class Listing:
    """How a file is made."""

    network: str
    """SHA-256 of the network it needs, in hexadecimal; empty: none."""
    given: str
    """BLAKE2b-128 of the bytes it has to be given, in hexadecimal; empty: none."""
    blocks: list[ListedBlock]
    damage: list[str]
    """What is wrong with its records; what is in segments is not looked at."""

    @property
    def raw_bytes(self) -> int:
        """Of the original."""
        return sum(block.raw_bytes for block in self.blocks)


def list_blocks(source: Source) -> Listing:
    """How a compressed file is made, without decompressing it; raises as `read_header`."""
    scanner = _Scanner(source)
    header = read_header(scanner)
    listing = Listing(header.network_digest.hex(), header.given_digest.hex(), [], [])
    for record in scanner.records(header):
        if isinstance(record, _Damage):
            listing.damage.append(record.what)
        elif isinstance(record, _Block):
            own = record.header
            row = ListedBlock(own.index, own.shape.raw_bytes, own.coded_bytes, own.shape.lanes)
            listing.blocks.append(row)
    return listing


def _check_end(found: End, expected: End) -> None:
    if found != expected:
        raise ContainerError(
            f"the end record speaks of {len(found.rows)} blocks and {found.length} bytes, "
            f"{len(expected.rows)} blocks and {expected.length} bytes were decoded"
            + ("" if found.digest == expected.digest else ", and the digests differ")
        )


def _check_shared(header: Header, shared: Shared) -> None:
    wanted = header.network_digest
    if wanted and shared.network is None:
        raise ModelMismatchError(
            f"the file was compressed with a model (SHA-256 {wanted.hex()[:16]}...); give the run "
            "it was compressed with"
        )
    if not wanted and shared.network is not None:
        raise ModelMismatchError(
            "the file was compressed without a model; decompress it without one"
        )
    if shared.network_digest != wanted:
        raise ModelMismatchError(
            f"the file was compressed with the model of SHA-256 {wanted.hex()[:16]}..., the one "
            f"given has {shared.network_digest.hex()[:16]}...; give the run it was compressed with"
        )
    if header.given_digest != shared.given_digest:
        has = "with a file given beforehand" if header.given_digest else "with nothing given"
        raise ModelMismatchError(f"the file was compressed {has}; use the same --given")


def decode_bytes(blob: bytes, *, shared: Shared = NOTHING_SHARED) -> bytes:
    """The bytes of a compressed file; raises as `decompress_stream`."""
    sink = io.BytesIO()
    decompress_stream(io.BytesIO(blob), sink, shared=shared)
    return sink.getvalue()


def decode(model: HoldsNetwork | None, blob: bytes, *, given: bytes = b"") -> bytes:
    """What `encode` was given, with the same model and the same `given`; raises as
    `decompress_stream`."""
    return decode_bytes(blob, shared=share(model, given))
