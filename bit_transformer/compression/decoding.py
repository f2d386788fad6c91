"""Decompresses files and streams, and recovers the undamaged parts of damaged ones."""

import io
from dataclasses import dataclass, field

from bit_transformer.compression.block import BlockCoder, Progress, memory_of, table_bits_for
from bit_transformer.compression.container import (
    MAX_LENGTH,
    MAX_PER_CODED_BYTE,
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
from bit_transformer.errors import ContainerError, ModelMismatchError


@dataclass
class Recovered:
    """The result of a recovery."""

    raw_bytes: int = 0
    """Bytes written, including zeros for missing ones."""
    damage: list[str] = field(default_factory=list)
    """Descriptions of the damage, in the order of the file."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """(begin, end) in the original of what could not be recovered. Zeros are written there."""


def decompress_stream(
    source: Source,
    sink: Sink,
    *,
    shared: Shared = NOTHING_SHARED,
    progress: Progress | None = None,
    memory_limit: int | None = None,
) -> int:
    """Decompress a file of one or several members, and return the number of bytes written.

    Each block is checked before it is written. Raises `ContainerError` unless the file is a whole
    container, `ContainerVersionError`, `ModelMismatchError` for another model or another
    dictionary, and `MemoryLimitError`.
    """
    shared.check_arithmetic()
    total, digest, rows = 0, digest_of(), list[tuple[int, int]]()
    for record in Scanner(source, memory_limit=memory_limit).records():
        if isinstance(record, Header):
            _check_shared(record, shared)
            digest, rows = digest_of(), []
        elif isinstance(record, Damage):
            raise ContainerError(f"{record.description}; --recover saves what can be saved")
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
    """Return the bytes of a block, which must be the block of this index."""
    if record.header.index != index:
        raise ContainerError(
            f"block {record.header.index} stands where block {index} should be; --recover "
            "puts blocks in their places"
        )
    decoded, damage = _decode_block(record, shared, progress, limit)
    if damage or decoded is None:
        raise ContainerError(f"{damage}; --recover saves what can be saved")
    return decoded.decoded().tobytes()


def recover_stream(
    source: Source,
    sink: SeekableSink,
    *,
    shared: Shared = NOTHING_SHARED,
    progress: Progress | None = None,
    most_bytes: int = MAX_LENGTH,
    memory_limit: int | None = None,
) -> Recovered:
    """Decompress the undamaged parts of a damaged file, into a seekable sink.

    If the source is seekable, the second header can replace a damaged one. Without any header
    nothing can be recovered, and the errors are those of `decompress_stream`. Raises
    `ContainerError` if the original was larger than `most_bytes`, as far as the file tells.
    """
    shared.check_arithmetic()
    scanner, found = Scanner(source, memory_limit=memory_limit), Recovered()
    member: _MemberRecovery | None = None
    for record in scanner.records():
        if isinstance(record, Header):
            _check_shared(record, shared)
            if member is not None:
                member.close(scanner.at)
            member = _MemberRecovery(record, sink, found, most_bytes)
        elif isinstance(record, Damage):
            found.damage.append(record.description)
        elif isinstance(record, End):
            assert member is not None
            member.length = record.length
        elif member is not None and member.accepts(record, scanner.at):
            member.write(record, *_decode_block(record, shared, progress, memory_limit))
    if member is not None:
        member.close(scanner.at)
    return found


class _MemberRecovery:
    """Writes the blocks of one member to their places, behind the members before it."""

    def __init__(
        self, header: Header, sink: SeekableSink, found: Recovered, max_bytes: int
    ) -> None:
        self._block_bytes, self._sink, self._found = header.block_bytes, sink, found
        self._max_bytes, self._base = max_bytes, found.raw_bytes
        self.length, self._written = header.length, 0
        self._seen = set[int]()

    def accepts(self, block: Block, read: int) -> bool:
        """Return whether the block is new and its place plausible after `read` bytes of the file.
        A crafted index could otherwise demand a huge output."""
        index, end = block.header.index, self._end_of(block)
        self._require_at_most(end)
        reachable = end <= MAX_PER_CODED_BYTE * read
        if not reachable:
            self._found.damage.append(
                f"block {index} claims to end at byte {end:,}, which is more than {read:,} bytes "
                "can hold"
            )
        return reachable and index not in self._seen

    def write(self, block: Block, decoded: BlockCoder | None, damage: str) -> None:
        """Write what was decoded of a block."""
        begin = self._base + block.header.index * self._block_bytes
        self._found.damage += [damage] if damage else []
        if decoded is None:
            return
        self._seen.add(block.header.index)
        self._found.missing += [(begin + a, begin + b) for a, b in decoded.missing()]
        self._sink.seek(begin)
        self._sink.write(decoded.decoded().tobytes())
        self._written = max(self._written, self._end_of(block))

    def close(self, read: int) -> None:
        """Fill the missing end with zeros, if `read` bytes of the file can have held it."""
        if self.length is not None and self.length > self._written:
            self._require_at_most(self.length)
            if self.length <= MAX_PER_CODED_BYTE * read:
                self._written = self.length
                self._sink.seek(self._base + self.length - 1)
                self._sink.write(b"\0")
            else:
                self._found.damage.append(
                    f"the header claims {self.length:,} bytes, more than {read:,} bytes can hold; "
                    "nothing is filled with zeros"
                )
        absent = _absent(self._seen, self._block_bytes, self._written)
        self._found.missing += [(self._base + a, self._base + b) for a, b in absent]
        self._found.missing.sort()
        self._found.raw_bytes = self._base + self._written

    def _end_of(self, block: Block) -> int:
        return block.header.index * self._block_bytes + block.header.shape.raw_bytes

    def _require_at_most(self, size: int) -> None:
        if self._base + size > self._max_bytes:
            raise ContainerError(
                f"the file claims {self._base + size:,} bytes, but at most {self._max_bytes:,} may "
                "be written; raise that limit to recover it"
            )


def _absent(seen: set[int], block_bytes: int, length: int) -> list[tuple[int, int]]:
    """Return (begin, end) of each stretch of blocks that were not seen."""
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
    """Return the block as far as it can be decoded, and a description of its damage."""
    header, shape = block.header, block.header.shape
    if shape.table_bits > table_bits_for(shape.raw_bytes + len(shared.dictionary)):
        return None, (
            f"block {header.index} asks for a table of 2^{shape.table_bits} entries, more than its "
            f"{shape.raw_bytes:,} bytes can fill"
        )
    needed = memory_of(shape, len(shared.dictionary), network=shared.network is not None)
    needed += shape.raw_bytes + header.coded_bytes
    check_memory(needed, memory_limit, f"decompressing block {header.index}")
    coder = BlockCoder(
        shape, network=shared.network, dictionary=shared.dictionary, progress=progress
    )
    for number, segment in enumerate(block.segments):
        if not coder.segments or not coder.decode(segment):
            return coder, (
                f"block {header.index}, segment {number} is undamaged but decodes to other bytes: "
                "another program wrote it, or this machine computes differently"
            )
    if block.whole and not coder.segments:
        return coder, ""
    return coder, f"block {header.index} is damaged in its segment {len(block.segments)}"


@dataclass(frozen=True)
class ListedBlock:
    """A block in a listing."""

    index: int
    raw_bytes: int
    coded_bytes: int
    lanes: int


@dataclass(frozen=True)
class ListedMember:
    """A member of a file; most files have one."""

    network: str
    """SHA-256 of the network that it needs, in hexadecimal. Empty if it needs none."""
    given: str
    """BLAKE2b-128 of the dictionary that it needs, in hexadecimal. Empty if it needs none."""
    blocks: list[ListedBlock] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """The structure of a file."""

    members: list[ListedMember]
    damage: list[str]
    """Damage of records and checksums; nothing is decompressed to find it."""

    @property
    def blocks(self) -> list[ListedBlock]:
        """The blocks of all members."""
        return [block for member in self.members for block in member.blocks]

    @property
    def raw_bytes(self) -> int:
        """Bytes of the original."""
        return sum(block.raw_bytes for block in self.blocks)


def list_blocks(source: Source, *, memory_limit: int | None = None) -> Listing:
    """Return the structure of a compressed file without decompressing it. Raises the errors of
    `decompress_stream` if the file has no header."""
    listing = Listing([], [])
    for record in Scanner(source, memory_limit=memory_limit).records():
        if isinstance(record, Damage):
            listing.damage.append(record.description)
        elif isinstance(record, Header):
            member = ListedMember(record.network_digest.hex(), record.dictionary_digest.hex())
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
            f"the end record claims {len(found.rows)} blocks and {found.length} bytes, but "
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
    if header.dictionary_digest != shared.dictionary_digest:
        how = "with a dictionary; use the same --given"
        if not header.dictionary_digest:
            how = "without a dictionary; leave --given out"
        raise ModelMismatchError(f"the file was compressed {how}")


def decode_bytes(blob: bytes, *, shared: Shared = NOTHING_SHARED) -> bytes:
    """Return the bytes of a compressed file. Raises the errors of `decompress_stream`."""
    sink = io.BytesIO()
    decompress_stream(io.BytesIO(blob), sink, shared=shared)
    return sink.getvalue()


def decode(model: HoldsNetwork | None, blob: bytes, *, given: bytes = b"") -> bytes:
    """Return the data that `encode` compressed with the same model and the same `given`. Raises
    the errors of `decompress_stream`."""
    return decode_bytes(blob, shared=share(model, given))
