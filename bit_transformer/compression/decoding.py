"""Decompresses files and streams, and saves what can be saved of damaged ones."""

import io
from dataclasses import dataclass, field

from bit_transformer.compression.block import BlockCoder, Progress, memory_of, table_bits_for
from bit_transformer.compression.container import (
    MOST_LENGTH,
    MOST_PER_CODED_BYTE,
    End,
    Header,
    SeekableSink,
    Sink,
    Source,
    digest_of,
)
from bit_transformer.compression.encoding import NOTHING_SHARED, Shared, share
from bit_transformer.compression.memory_limit import check_memory
from bit_transformer.compression.network import HoldsNetwork
from bit_transformer.compression.scanning import Block, Damage, Scanner
from bit_transformer.compression.self_test import check_arithmetic
from bit_transformer.errors import ContainerError, ModelMismatchError


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
    memory_limit: int | None = None,
) -> int:
    """Decompress a file, or several that follow each other in one; how many bytes came out.

    Raises `ContainerError` for what is no container or is damaged, naming block and place,
    `ContainerVersionError`, `ModelMismatchError` for another model or other bytes given, and
    `MemoryLimitError`. Bytes are written a block at a time, each checked.
    """
    check_arithmetic(network=shared.network is not None)
    total, digest, rows = 0, digest_of(), list[tuple[int, int]]()
    for record in Scanner(source, memory_limit=memory_limit).records():
        if isinstance(record, Header):
            _check_shared(record, shared)
            digest, rows = digest_of(), []
        elif isinstance(record, Damage):
            raise ContainerError(f"{record.what}; --recover saves what can be saved")
        elif isinstance(record, End):
            _check_end(record, End(sum(raw for raw, _ in rows), digest.digest(), tuple(rows)))
        else:
            content = _content(record, len(rows), shared, progress, memory_limit)
            sink.write(content)
            digest.update(content)
            rows.append((len(content), record.header.coded_bytes))
            total += len(content)
    return total


def _content(
    record: Block, index: int, shared: Shared, progress: Progress | None, limit: int | None
) -> bytes:
    """The bytes of the block that should be the one of this index."""
    if record.header.index != index:
        raise ContainerError(
            f"block {record.header.index} stands where block {index} should be; --recover "
            "puts blocks where they belong"
        )
    decoded, trouble = _decode_block(record, shared, progress, limit)
    if trouble or decoded is None:
        raise ContainerError(f"{trouble}; --recover saves what can be saved")
    return decoded.decoded().tobytes()


def recover_stream(
    source: Source,
    sink: SeekableSink,
    *,
    shared: Shared = NOTHING_SHARED,
    progress: Progress | None = None,
    most_bytes: int = MOST_LENGTH,
    memory_limit: int | None = None,
) -> Recovered:
    """Decompress what can be decompressed of a damaged file, into a file that can be seeked in.

    In a source that can be seeked in too, a damaged header is replaced by its copy. Raises as
    `decompress_stream` where neither can be used: without it nothing can be saved; and
    `ContainerError` where the original, by what is left, had more than `most_bytes`.
    """
    check_arithmetic(network=shared.network is not None)
    scanner, found = Scanner(source, memory_limit=memory_limit), Recovered()
    member: _Rescue | None = None
    for record in scanner.records():
        if isinstance(record, Header):
            _check_shared(record, shared)
            if member is not None:
                member.close(scanner.at)
            member = _Rescue(record, sink, found, most_bytes)
        elif isinstance(record, Damage):
            found.damage.append(record.what)
        elif isinstance(record, End):
            assert member is not None
            member.length = record.length
        elif member is not None and member.takes(record, scanner.at):
            member.write(record, *_decode_block(record, shared, progress, memory_limit))
    if member is not None:
        member.close(scanner.at)
    return found


class _Rescue:
    """Puts the blocks of one member where they belong, behind the members before it."""

    def __init__(
        self, header: Header, sink: SeekableSink, found: Recovered, most_bytes: int
    ) -> None:
        self._block_bytes, self._sink, self._found = header.block_bytes, sink, found
        self._most, self._base = most_bytes, found.raw_bytes
        self.length, self._written = header.length, 0
        self._seen = set[int]()

    def takes(self, block: Block, read: int) -> bool:
        """Whether it is another block, at a place that a file can reach of which so many bytes
        were read."""
        index, end = block.header.index, self._end_of(block)
        self._require_at_most(end)
        reachable = end <= MOST_PER_CODED_BYTE * read
        if not reachable:
            self._found.damage.append(
                f"block {index} says that it ends at byte {end:,}, which is more than {read:,} "
                "bytes can hold"
            )
        return reachable and index not in self._seen

    def write(self, block: Block, decoded: BlockCoder | None, trouble: str) -> None:
        """Write what was decoded of a block."""
        begin = self._base + block.header.index * self._block_bytes
        self._found.damage += [trouble] if trouble else []
        if decoded is None:
            return
        self._seen.add(block.header.index)
        self._found.missing += [(begin + a, begin + b) for a, b in decoded.missing()]
        self._sink.seek(begin)
        self._sink.write(decoded.decoded().tobytes())
        self._written = max(self._written, self._end_of(block))

    def close(self, read: int) -> None:
        """Fill up with zeros what is missing at the end, as far as so many bytes read can have
        been more."""
        if self.length is not None and self.length > self._written:
            self._require_at_most(self.length)
            if self.length <= MOST_PER_CODED_BYTE * read:
                self._written = self.length
                self._sink.seek(self._base + self.length - 1)
                self._sink.write(b"\0")
            else:
                self._found.damage.append(
                    f"the header speaks of {self.length:,} bytes, more than {read:,} bytes can "
                    "hold; nothing is filled up"
                )
        absent = _absent(self._seen, self._block_bytes, self._written)
        self._found.missing += [(self._base + a, self._base + b) for a, b in absent]
        self._found.missing.sort()
        self._found.raw_bytes = self._base + self._written

    def _end_of(self, block: Block) -> int:
        return block.header.index * self._block_bytes + block.header.shape.raw_bytes

    def _require_at_most(self, size: int) -> None:
        if self._base + size > self._most:
            raise ContainerError(
                f"the original had {self._base + size:,} bytes by what the file says, "
                f"{self._most:,} are the most that may be written; recover it where more may be"
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


def _decode_block(
    block: Block, shared: Shared, progress: Progress | None, memory_limit: int | None
) -> tuple[BlockCoder | None, str]:
    """The block as far as it can be decoded, and what is wrong with it."""
    header, shape = block.header, block.header.shape
    if shape.table_bits > table_bits_for(shape.raw_bytes + len(shared.given)):
        return None, (
            f"block {header.index} asks for a table of 2^{shape.table_bits} entries, more than "
            f"its {shape.raw_bytes:,} bytes can use"
        )
    needed = memory_of(shape, len(shared.given), network=shared.network is not None)
    needed += shape.raw_bytes + header.coded_bytes
    check_memory(needed, memory_limit, f"decompressing block {header.index}")
    coder = BlockCoder(shape, network=shared.network, given=shared.given, progress=progress)
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


@dataclass(frozen=True)
class ListedBlock:
    """One block of a listing."""

    index: int
    raw_bytes: int
    coded_bytes: int
    lanes: int


@dataclass(frozen=True)
class ListedMember:
    """One of the files that a file consists of; mostly there is one."""

    network: str
    """SHA-256 of the network it needs, in hexadecimal; empty: none."""
    given: str
    """BLAKE2b-128 of the bytes it has to be given, in hexadecimal; empty: none."""
    blocks: list[ListedBlock] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """How a file is made."""

    members: list[ListedMember]
    damage: list[str]
    """What is wrong with its records and their checksums; nothing is decompressed for it."""

    @property
    def blocks(self) -> list[ListedBlock]:
        """Of all members."""
        return [block for member in self.members for block in member.blocks]

    @property
    def raw_bytes(self) -> int:
        """Of the original."""
        return sum(block.raw_bytes for block in self.blocks)


def list_blocks(source: Source, *, memory_limit: int | None = None) -> Listing:
    """How a compressed file is made, without decompressing it; raises as `decompress_stream` for
    what has no header."""
    listing = Listing([], [])
    for record in Scanner(source, memory_limit=memory_limit).records():
        if isinstance(record, Damage):
            listing.damage.append(record.what)
        elif isinstance(record, Header):
            member = ListedMember(record.network_digest.hex(), record.given_digest.hex())
            listing.members.append(member)
        elif isinstance(record, Block):
            own = record.header
            row = ListedBlock(own.index, own.shape.raw_bytes, own.coded_bytes, own.shape.lanes)
            listing.members[-1].blocks.append(row)
            if not record.whole:
                where = f"block {own.index} is damaged in its segment {len(record.segments)}"
                listing.damage.append(where)
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
