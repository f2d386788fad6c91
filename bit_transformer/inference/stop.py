"""Stop strings: byte strings at which generation ends, and the search for them in new bits."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from bit_transformer.errors import ConfigError

Ended = Literal["length", "stop", "gate"]
"""Why generation ended: at the requested length, at a stop string, or because the gate refused."""
Stop = bytes | str | Sequence[bytes | str]
"""One stop string or several. Text is encoded as UTF-8."""

MAX_STOP_BYTES = 1024
MAX_STOP_STRINGS = 64

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.|$)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def stop_strings(stop: Stop, *, valid_utf8: bool = False) -> tuple[bytes, ...]:
    """Return the stop strings as bytes.

    Raises `ConfigError` for values that are neither text nor bytes, for an empty or overlong
    string and for too many strings. With `valid_utf8` it also rejects bytes that are not UTF-8,
    because they could cut a character in two.
    """
    several = [stop] if isinstance(stop, str | bytes) else list(stop)
    if len(several) > MAX_STOP_STRINGS:
        raise ConfigError(
            f"there may be at most {MAX_STOP_STRINGS} stop strings, got {len(several)}"
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
            f"stop string {one!r} is not valid UTF-8; give other bytes or omit valid_utf8"
        ) from error
    if not 1 <= len(content) <= MAX_STOP_BYTES:
        raise ConfigError(
            f"a stop string must have 1 to {MAX_STOP_BYTES} bytes, got {len(content)}"
        )
    return content


def unescaped(content: bytes) -> bytes:
    r"""Replace the escapes \n, \r, \t, \0, \\ and \xHH by their bytes.

    Raises `ConfigError` for any other backslash.
    """

    def decoded(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if code[:1] == b"x" and len(code) == 3:
            return bytes([int(code[1:], 16)])
        if code not in _ESCAPED:
            raise ConfigError(
                f"there is no escape {found[0].decode(errors='backslashreplace')}; use "
                r"\n, \r, \t, \0, \xHH, or \\ for a backslash"
            )
        return _ESCAPED[code]

    return _ESCAPE.sub(decoded, content)


class StopSearch:
    """Searches the new bits of one sequence for stop strings while they are drawn.

    Only whole new bytes can be part of a stop string. Bits that may begin one are not safe to
    output until later bits decide it.
    """

    def __init__(self, strings: tuple[bytes, ...], *, byte_bits: int, prompt_bits: int) -> None:
        """`byte_bits` is 8, or 9 with parity. Bits that complete the prompt's last byte are not
        searched."""
        self._strings, self._byte_bits = strings, byte_bits
        self._first = -prompt_bits % byte_bits
        self._longest = max(map(len, strings))
        self._read_bits = self._bytes = self._value = 0
        self._tail = b""
        self.safe_bits = self._first
        """Number of new bits that cannot be part of a stop string."""
        self.found = False
        """True once a stop string was found. `safe_bits` is then the position of its first bit."""

    def read(self, bits: Iterable[int]) -> None:
        """Read the next new bits. Bits after a stop string are ignored."""
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
        found = [len(string) for string in self._strings if tail.endswith(string)]
        self.found = bool(found)
        held = max(found) if found else max(map(self._matched_prefix, self._strings))
        self.safe_bits = self._first + (self._bytes - held) * self._byte_bits

    def _matched_prefix(self, string: bytes) -> int:
        """Return how many of the newest bytes form a proper prefix of `string`."""
        lengths = range(min(len(string) - 1, len(self._tail)), 0, -1)
        return next((n for n in lengths if self._tail.endswith(string[:n])), 0)
