"""Reads the records of compressed files, and finds the next whole record after a damaged one.

A file may consist of several members, as in gzip: `cat a.btz b.btz` is a file of two.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from bit_transformer.compression.block import Segment
from bit_transformer.compression.container import (
    BLOCK,
    BLOCK_HEADER_BYTES,
    END,
    END_OPENING_BYTES,
    MAGIC,
    MAX_HEADER_BYTES,
    BlockHeader,
    End,
    Header,
    SeekableSource,
    Source,
    end_record_bytes,
    parse_block_header,
    parse_copy,
    parse_end,
    parse_header,
    split_segments,
)
from bit_transformer.compression.memory_limit import check_memory
from bit_transformer.errors import ContainerError, ContainerVersionError

_PIECE_BYTES = 1 << 16
_RECORD_MARK = re.compile(b"|".join(map(re.escape, (BLOCK, END))))
_ANY_MARK = re.compile(b"|".join(map(re.escape, (BLOCK, END, MAGIC))))
_MAX_WASTE = 8
"""Scanning stops once it has checked this many times the file's bytes for records that turned out
to be none. Otherwise a crafted file could keep it busy for hours."""
_MAX_SEARCHES = 64
"""Limits how often the rest of a file is searched, for the same reason."""


@dataclass(frozen=True)
class Block:
    """A block, as far as it can be read."""

    header: BlockHeader
    segments: list[Segment]
    """The segments before the first damaged one."""
    whole: bool


@dataclass(frozen=True)
class Damage:
    """Damage at one place of a file."""

    description: str


Record = Header | Block | Damage | End
"""A part of a file. A `Header` begins a member."""


class Scanner:
    """Reads a file from begin to end; in a seekable source it can search ahead after damage."""

    def __init__(self, source: Source, *, memory_limit: int | None = None) -> None:
        self._source, self._held, self._begin, self.at = source, b"", 0, 0
        self._limit = memory_limit
        self._wasted = self._searches = 0
        """`_wasted`: bytes checked as possible records that were not records. `_searches`: how
        often the rest of the file was searched."""
        self._last_record: dict[int, int] = {}
        """Position of the last record of a header, by the header's checksum."""

    def records(self) -> Iterator[Record]:
        """Yield headers, blocks, end records, and the damage between them.

        Raises `ContainerError` if the file does not begin with a header and no end record has a
        second one, and `ContainerVersionError` for another version of the format.
        """
        header: Header | None = yield from self._first()
        while header is not None:
            yield header
            header = yield from self._member(header)

    def _first(self) -> Generator[Damage, None, Header]:
        try:
            header, size = parse_header(self._peek(MAX_HEADER_BYTES))
        except (ContainerError, ContainerVersionError) as error:
            found = self._second_header()
            if found is None:
                raise
            yield Damage(f"{error}; the second header in the end record is whole")
            self._skip(_RECORD_MARK)
            return found
        self._drop(size)
        return header

    def _member(self, header: Header) -> Generator[Record, None, Header | None]:
        """Yield the records of a member, and return the header of the next member."""
        while opening := self._peek(BLOCK_HEADER_BYTES):
            at = self.at
            if self._wasted > _MAX_WASTE * (at + _PIECE_BYTES):
                yield Damage(f"what follows byte {at} looks like records but holds none")
                return None
            if block := parse_block_header(opening, header):
                yield self._block(block, header)
            elif opening.startswith(END) and (end := self._end(header)):
                yield end
                return (yield from self._next())
            elif (found := self._header_here()) and not self._continues(header):
                yield Damage(f"another file begins at byte {at} before the previous one has ended")
                self._drop(found[1])
                return found[0]
            else:
                yield Damage(f"the record at byte {at} is damaged")
                self._drop(1)
                self._skip(_ANY_MARK)
        yield Damage(f"the file ends at byte {self.at} without its end record: it was cut")
        return None

    def _next(self) -> Generator[Damage, None, Header | None]:
        """Return the header of the member that follows an end record; None at the file's end."""
        at = self.at
        extra = len(self._peek(_PIECE_BYTES))
        if not extra:
            return None
        if not (found := self._header_here()):
            second = self._second_header(exact=True)
            if second is not None:
                yield Damage(f"the header at byte {at} is damaged; the second header is whole")
                self._skip(_RECORD_MARK)
                return second
            yield Damage(
                f"{extra} bytes or more follow the end of the file at byte {at}: something was "
                "appended"
            )
            while self._peek(1) and not (found := self._header_here()):
                self._drop(1)
                self._skip(_ANY_MARK)
        if found:
            self._drop(found[1])
            return found[0]
        return None

    def _header_here(self) -> tuple[Header, int] | None:
        try:
            return parse_header(self._peek(MAX_HEADER_BYTES))
        except (ContainerError, ContainerVersionError):
            return None

    def _second_header(self, *, exact: bool = False) -> Header | None:
        """Return the second header of the member that begins here. With `exact`, its end record
        must be where its rows say; else the nearest one counts, as bytes may have been lost."""
        start, best = self.at, None
        if not self._may_search():
            return None
        while self._skip(_RECORD_MARK):
            at, opening = self.at, self._peek(END_OPENING_BYTES)
            if opening.startswith(END) and (header := parse_copy(opening)):
                end = parse_end(self._peek(end_record_bytes(opening, header)), header)
                moved = abs(at - end.begins_at(header) - start) if end else at
                if best is None or moved < best[0]:
                    best = moved, header
                if not moved:
                    break
            self._drop(1)
        self._rewind(start)
        return None if best is None or (exact and best[0]) else best[1]

    def _continues(self, header: Header) -> bool:
        """Return whether a record of this header still follows. If so, an apparent header is part
        of this member's data, which may hold a compressed file."""
        if header.crc not in self._last_record and self._may_search():
            start, self._last_record[header.crc] = self.at, -1
            while self._skip(_RECORD_MARK):
                opening = self._peek(BLOCK_HEADER_BYTES)
                if parse_block_header(opening, header) or self._is_end(opening, header):
                    self._last_record[header.crc] = self.at
                self._drop(1)
            self._rewind(start)
        return self._last_record.get(header.crc, -1) > self.at

    def _is_end(self, opening: bytes, header: Header) -> bool:
        if not opening.startswith(END):
            return False
        return parse_end(self._peek(end_record_bytes(opening, header)), header) is not None

    def _may_search(self) -> bool:
        self._searches += 1
        seekable = isinstance(self._source, SeekableSource) and self._source.seekable()
        return seekable and self._searches <= _MAX_SEARCHES

    def _rewind(self, at: int) -> None:
        assert isinstance(self._source, SeekableSource)
        self._source.seek(at)
        self._held, self._begin, self.at = b"", 0, at

    def _peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them; fewer only at the end of the source."""
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
        self.at += size

    def _block(self, block: BlockHeader, header: Header) -> Block:
        """Read a block up to its end or, where damage has moved its end, up to the next record."""
        check_memory(2 * block.coded_bytes, self._limit, f"reading block {block.index}")
        content = self._peek(BLOCK_HEADER_BYTES + block.coded_bytes)[BLOCK_HEADER_BYTES:]
        segments, taken = split_segments(content)
        rest = len(content) - taken
        self._drop(BLOCK_HEADER_BYTES + taken)
        if taken == block.coded_bytes or self._record_follows(rest, header):
            self._drop(rest)
        else:
            self._wasted += rest
            self._skip(_ANY_MARK)
        return Block(block, segments, taken == block.coded_bytes)

    def _record_follows(self, rest: int, header: Header) -> bool:
        opening = self._peek(rest + BLOCK_HEADER_BYTES)[rest:]
        return opening.startswith(END) or parse_block_header(opening, header) is not None

    def _end(self, header: Header) -> End | None:
        opening = self._peek(END_OPENING_BYTES)
        content = self._peek(end_record_bytes(opening, header))
        found = parse_end(content, header)
        if found is None:
            self._wasted += len(content)
        else:
            self._drop(len(content))
        return found

    def _skip(self, mark: re.Pattern[bytes]) -> bool:
        """Go to the next mark, or to the end; return whether there is one."""
        longest = len(MAGIC)
        while not (found := mark.search(self._held, self._begin)):
            # The last bytes may be the beginning of a mark.
            kept = min(longest - 1, len(self._held) - self._begin)
            self._drop(len(self._held) - self._begin - kept)
            if len(self._peek(_PIECE_BYTES)) == kept:
                self._drop(kept)
                return False
        self._drop(found.start() - self._begin)
        return True
