"""Reads the records of compressed files; where one is damaged it looks for the next that is not.

Files that follow each other in one are members, as in gzip: `cat a.btz b.btz` is both.
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
    MOST_HEADER_BYTES,
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
_RECORD = re.compile(b"|".join(map(re.escape, (BLOCK, END))))
_ANYTHING = re.compile(b"|".join(map(re.escape, (BLOCK, END, MAGIC))))
_MOST_IN_VAIN = 8
"""Times the bytes of a file that are looked at again after damage; files made to take for ever
would have more."""
_MOST_LOOKS = 64
"""Times that the rest of a file is looked through for what belongs to damage."""


@dataclass(frozen=True)
class Block:
    """One block, as far as it can be read."""

    header: BlockHeader
    segments: list[Segment]
    """Up to the first damaged one."""
    whole: bool


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file at one place."""

    what: str


Record = Header | Block | Damage | End
"""What a file consists of; with a `Header` a member begins."""


class Scanner:
    """Goes through a file once; where it can be read again, it looks ahead after damage."""

    def __init__(self, source: Source, *, memory_limit: int | None = None) -> None:
        self._source, self._held, self._begin, self.at = source, b"", 0, 0
        self._limit = memory_limit
        self._in_vain = self._looks = 0
        """Bytes looked at for records that turned out to be none."""
        self._last_of: dict[int, int] = {}
        """Where the last record of a header is, by the header's seal."""

    def records(self) -> Iterator[Record]:
        """Headers, blocks, ends and what is wrong between them.

        Raises `ContainerError` for what begins with no header and has none kept in an end record
        either, `ContainerVersionError` for one of another version.
        """
        header: Header | None = yield from self._first()
        while header is not None:
            yield header
            header = yield from self._member(header)

    def _first(self) -> Generator[Damage, None, Header]:
        try:
            header, size = parse_header(self._peek(MOST_HEADER_BYTES))
        except (ContainerError, ContainerVersionError) as error:
            found = self._kept_header()
            if found is None:
                raise
            yield Damage(f"{error}; a second one, at its end, is whole")
            self._skip(_RECORD)
            return found
        self._drop(size)
        return header

    def _member(self, header: Header) -> Generator[Record, None, Header | None]:
        """What is in a member; in the end the header of the next one."""
        while opening := self._peek(BLOCK_HEADER_BYTES):
            at = self.at
            if self._in_vain > _MOST_IN_VAIN * (at + _PIECE_BYTES):
                yield Damage(f"what follows byte {at} looks like records and holds none")
                return None
            if block := parse_block_header(opening, header):
                yield self._block(block, header)
            elif opening.startswith(END) and (end := self._end(header)):
                yield end
                return (yield from self._next())
            elif (found := self._header_here()) and not self._goes_on(header):
                yield Damage(f"another file begins at byte {at} before the one before has ended")
                self._drop(found[1])
                return found[0]
            else:
                yield Damage(f"the record at byte {at} is damaged")
                self._drop(1)
                self._skip(_ANYTHING)
        yield Damage(f"the file ends at byte {self.at} without its end record: it was cut")
        return None

    def _next(self) -> Generator[Damage, None, Header | None]:
        """The header of the member that follows an end; None for the end of the file."""
        at = self.at
        extra = len(self._peek(_PIECE_BYTES))
        if not extra:
            return None
        if not (found := self._header_here()):
            kept = self._kept_header(exact=True)
            if kept is not None:
                yield Damage(f"the header at byte {at} is damaged; a second one is whole")
                self._skip(_RECORD)
                return kept
            yield Damage(
                f"{extra} bytes or more follow the end of the file at byte {at}: something was "
                "appended"
            )
            while self._peek(1) and not (found := self._header_here()):
                self._drop(1)
                self._skip(_ANYTHING)
        if found:
            self._drop(found[1])
            return found[0]
        return None

    def _header_here(self) -> tuple[Header, int] | None:
        try:
            return parse_header(self._peek(MOST_HEADER_BYTES))
        except (ContainerError, ContainerVersionError):
            return None

    def _kept_header(self, *, exact: bool = False) -> Header | None:
        """The header of the member that begins here, out of its end record; unless it has to be
        `exact`, also where bytes were lost or won in between."""
        start, best = self.at, None
        if not self._may_look():
            return None
        while self._skip(_RECORD):
            at, opening = self.at, self._peek(END_OPENING_BYTES)
            if opening.startswith(END) and (header := parse_copy(opening)):
                end = parse_end(self._peek(end_record_bytes(opening, header)), header)
                moved = abs(at - end.begins_before(header) - start) if end else at
                if best is None or moved < best[0]:
                    best = moved, header
                if not moved:
                    break
            self._drop(1)
        self._go_back(start)
        return None if best is None or (exact and best[0]) else best[1]

    def _goes_on(self, header: Header) -> bool:
        """Whether a record of this header still follows. Then what looks like the header of another
        member is one in the bytes of this one."""
        if header.seal not in self._last_of and self._may_look():
            start, self._last_of[header.seal] = self.at, -1
            while self._skip(_RECORD):
                opening = self._peek(BLOCK_HEADER_BYTES)
                if parse_block_header(opening, header) or self._is_end(opening, header):
                    self._last_of[header.seal] = self.at
                self._drop(1)
            self._go_back(start)
        return self._last_of.get(header.seal, -1) > self.at

    def _is_end(self, opening: bytes, header: Header) -> bool:
        if not opening.startswith(END):
            return False
        return parse_end(self._peek(end_record_bytes(opening, header)), header) is not None

    def _may_look(self) -> bool:
        self._looks += 1
        seekable = isinstance(self._source, SeekableSource) and self._source.seekable()
        return seekable and self._looks <= _MOST_LOOKS

    def _go_back(self, at: int) -> None:
        assert isinstance(self._source, SeekableSource)
        self._source.seek(at)
        self._held, self._begin, self.at = b"", 0, at

    def _peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end of the source, to be read again."""
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
        """Go behind a block: to its end, or, where damage has moved that, to the next record."""
        check_memory(2 * block.coded_bytes, self._limit, f"reading block {block.index}")
        content = self._peek(BLOCK_HEADER_BYTES + block.coded_bytes)[BLOCK_HEADER_BYTES:]
        segments, taken = split_segments(content)
        rest = len(content) - taken
        self._drop(BLOCK_HEADER_BYTES + taken)
        if taken == block.coded_bytes or self._record_follows(rest, header):
            self._drop(rest)
        else:
            self._in_vain += rest
            self._skip(_ANYTHING)
        return Block(block, segments, taken == block.coded_bytes)

    def _record_follows(self, rest: int, header: Header) -> bool:
        opening = self._peek(rest + BLOCK_HEADER_BYTES)[rest:]
        return opening.startswith(END) or parse_block_header(opening, header) is not None

    def _end(self, header: Header) -> End | None:
        opening = self._peek(END_OPENING_BYTES)
        content = self._peek(end_record_bytes(opening, header))
        found = parse_end(content, header)
        if found is None:
            self._in_vain += len(content)
        else:
            self._drop(len(content))
        return found

    def _skip(self, marker: re.Pattern[bytes]) -> bool:
        """Go to the next marker from here on, or to the end; whether there is one."""
        longest = len(MAGIC)
        while not (found := marker.search(self._held, self._begin)):
            # The last bytes may be the first of a marker.
            kept = min(longest - 1, len(self._held) - self._begin)
            self._drop(len(self._held) - self._begin - kept)
            if len(self._peek(_PIECE_BYTES)) == kept:
                self._drop(kept)
                return False
        self._drop(found.start() - self._begin)
        return True
