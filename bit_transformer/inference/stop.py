"""Stop strings: byte strings at which generation ends, and the search for them in new bits."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from bit_transformer.errors import ConfigError

Ended = Literal["length", "stop", "gate"]
"""Why generation ended: all bits that were asked for are there, a stop string came, or the gate
refused."""
Stop = bytes | str | Sequence[bytes | str]
"""One stop string or several; text stands for its UTF-8."""

MOST_STOP_BYTES = 1024
MOST_STOP_STRINGS = 64

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.|$)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def stop_strings(stop: Stop, *, valid_utf8: bool = False) -> tuple[bytes, ...]:
    """The stop strings as bytes.

    Raises `ConfigError` for what is no text and no bytes, for an empty or overlong string, for too
    many, and with `valid_utf8` for bytes that are no UTF-8, which could cut a character in two.
    """
    several = [stop] if isinstance(stop, str | bytes) else list(stop)
    if len(several) > MOST_STOP_STRINGS:
        raise ConfigError(
            f"at most {MOST_STOP_STRINGS} stop strings are looked for, got {len(several)}"
        )
    return tuple(_checked(one, valid_utf8=valid_utf8) for one in several)


def _checked(one: bytes | str, *, valid_utf8: bool) -> bytes:
    if not isinstance(one, str | bytes):
        raise ConfigError(f"a stop string must be bytes or text, got {type(one).__name__}")
    try:
        content = one.encode() if isinstance(one, str) else one
        if valid_utf8:
            content.decode()
    except UnicodeError as error:
        raise ConfigError(
            f"stop string {one!r} is no valid UTF-8; give other bytes, or draw without valid_utf8"
        ) from error
    if not 1 <= len(content) <= MOST_STOP_BYTES:
        raise ConfigError(
            f"a stop string must have 1 to {MOST_STOP_BYTES} bytes, got {len(content)}"
        )
    return content


def unescaped(content: bytes) -> bytes:
    r"""The bytes with \n, \r, \t, \0, \\ and \xHH replaced by what they stand for.

    Raises `ConfigError` for any other backslash.
    """

    def meant(found: re.Match[bytes]) -> bytes:
        word = found[1]
        if word[:1] == b"x" and len(word) == 3:
            return bytes([int(word[1:], 16)])
        if word not in _ESCAPED:
            raise ConfigError(
                f"there is no escape {found[0].decode(errors='backslashreplace')}; there are "
                r"\n, \r, \t, \0, \xHH, and \\ for a backslash"
            )
        return _ESCAPED[word]

    return _ESCAPE.sub(meant, content)


class StopSearch:
    """Looks for stop strings in the bits of one sequence as they are drawn.

    A stop string is found among whole bytes that are all new. Until it is clear whether bits are
    the beginning of one, they are not safe to hand out.
    """

    def __init__(self, strings: tuple[bytes, ...], *, byte_bits: int, prompt_bits: int) -> None:
        """`byte_bits` is 8, or 9 with parity; bits that finish the prompt's last byte are no part
        of a stop string."""
        self._strings, self._byte_bits = strings, byte_bits
        self._first = -prompt_bits % byte_bits
        self._longest = max(map(len, strings))
        self._read_bits = self._bytes = self._value = 0
        self._tail = b""
        self.safe_bits = self._first
        """Bits from the first new one on that are no part of a stop string."""
        self.found = False
        """Whether a stop string has come; `safe_bits` is then where it begins."""

    def read(self, bits: Iterable[int]) -> None:
        """Read the next new bits; what comes after a stop string is ignored."""
        for bit in bits:
            if self.found:
                return
            place = (self._read_bits - self._first) % self._byte_bits
            self._read_bits += 1
            if self._read_bits <= self._first:
                continue
            if place < 8:
                self._value = (self._value << 1 | bit) & 0xFF
            if place == self._byte_bits - 1:
                self._end_of_byte()

    def _end_of_byte(self) -> None:
        self._bytes += 1
        tail = self._tail = (self._tail + bytes([self._value]))[-self._longest :]
        came = [len(string) for string in self._strings if tail.endswith(string)]
        self.found = bool(came)
        held = max(came) if came else max(map(self._begun, self._strings))
        self.safe_bits = self._first + (self._bytes - held) * self._byte_bits

    def _begun(self, string: bytes) -> int:
        """How many of the newest bytes are the beginning of a stop string."""
        lengths = range(min(len(string) - 1, len(self._tail)), 0, -1)
        return next((n for n in lengths if self._tail.endswith(string[:n])), 0)
