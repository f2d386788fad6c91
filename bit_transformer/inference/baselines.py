"""General compressors, as baselines for a model's bits per byte."""

import bz2
import gzip
import lzma
import threading
from collections.abc import Callable, Sequence
from typing import Any

from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.extras import import_extra

Compressor = Callable[[bytes], bytes]


def _zstd(data: bytes) -> bytes:
    compressed: bytes = _library("zstandard").ZstdCompressor(level=22).compress(data)
    return compressed


def _brotli(data: bytes) -> bytes:
    compressed: bytes = _library("brotli").compress(data, quality=11, lgwin=24)
    return compressed


COMPRESSORS: dict[str, tuple[str, Compressor]] = {
    "gzip": ("gzip -9", lambda data: gzip.compress(data, 9)),
    "bzip2": ("bzip2 -9", lambda data: bz2.compress(data, 9)),
    "xz": ("xz -9e", lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    "zstd": ("zstd -22", _zstd),
    "brotli": ("brotli -11", _brotli),
}
"""Label and function of each compressor by name. Each uses its program's strongest setting."""


def compressed_bits_per_byte(data: bytes, names: Sequence[str] = ()) -> dict[str, float]:
    """Return the compressed bits per byte of `data` by label, for the named compressors or for all.

    Each compresses `data` as one file, and its header and checksum count. Signals are handled
    meanwhile. Raises `ConfigError` for an unknown name, `SourceError` for empty data and
    `MissingExtraError` for a compressor that is not installed.
    """
    require_compressors(names)
    if not data:
        raise SourceError("there is nothing to compress: 0 bytes given, at least 1 is needed")
    chosen = [COMPRESSORS[name] for name in names or COMPRESSORS]
    return {label: 8 * _compressed_size(compress, data) / len(data) for label, compress in chosen}


def _compressed_size(compress: Compressor, data: bytes) -> int:
    """Compress in a thread and return the size. One call may take minutes, and Python handles
    signals only between instructions of the main thread. After a signal nobody waits for the
    thread."""
    outcome: list[int | Exception] = []

    def work() -> None:
        try:
            outcome.append(len(compress(data)))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def require_compressors(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that is not in `COMPRESSORS`."""
    if unknown := [name for name in names if name not in COMPRESSORS]:
        raise ConfigError(f"no compressor named {unknown[0]!r}; use {', '.join(COMPRESSORS)}")


def _library(name: str) -> Any:
    return import_extra(name, name, extra="compare", purpose="comparing with this compressor")
