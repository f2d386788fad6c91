"""Compressors that are measured beside ours. Each packs and unpacks the bytes of a file."""

import bz2
import gzip
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import brotli
import pyppmd
import zstandard

from bit_transformer import CodecConfig, decode, encode

Coder = Callable[[bytes], bytes]
_PPMD_ORDER, _PPMD_BYTES = 6, 1 << 28


@dataclass(frozen=True)
class Compressor:
    """A compressor at its strongest setting, unless its name says otherwise."""

    pack: Coder
    unpack: Coder
    program: bool = False
    """Whether it is a separate program, whose memory this process cannot measure."""


def _zpaq(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data").write_bytes(data)
        words = ["zpaq", "a", "archive.zpaq", "data", "-m5", "-t1"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        return Path(folder, "archive.zpaq").read_bytes()


def _unzpaq(packed: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "archive.zpaq").write_bytes(packed)
        words = ["zpaq", "x", "archive.zpaq", "-t1"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        return Path(folder, "data").read_bytes()


def _through(program: str, *options: str) -> Coder:
    """A coder that calls a program with the names of an input and an output file."""

    def run(data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "in").write_bytes(data)
            words = [program, *options, "in", "out"]
            subprocess.run(words, cwd=folder, check=True, capture_output=True)
            return Path(folder, "out").read_bytes()

    return run


def _ours(data: bytes) -> bytes:
    return encode(None, data, config=CodecConfig(verify=False))


def _ours_at_best(data: bytes) -> bytes:
    return encode(None, data, config=CodecConfig(verify=False, best=True))


COMPRESSORS: dict[str, Compressor] = {
    "gzip -9": Compressor(lambda data: gzip.compress(data, 9), gzip.decompress),
    "bzip2 -9": Compressor(lambda data: bz2.compress(data, 9), bz2.decompress),
    "xz -9e": Compressor(
        lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME), lzma.decompress
    ),
    "zstd -19": Compressor(zstandard.ZstdCompressor(level=19).compress, zstandard.decompress),
    "zstd -22 --ultra": Compressor(
        zstandard.ZstdCompressor(level=22).compress, zstandard.decompress
    ),
    "brotli -11": Compressor(
        lambda data: brotli.compress(data, quality=11, lgwin=24), brotli.decompress
    ),
    "PPMd order 6": Compressor(
        lambda data: pyppmd.compress(data, max_order=_PPMD_ORDER, mem_size=_PPMD_BYTES),
        lambda packed: bytes(
            pyppmd.decompress(packed, max_order=_PPMD_ORDER, mem_size=_PPMD_BYTES)  # type: ignore[arg-type]
        ),
    ),
    "ours, mixing": Compressor(_ours, lambda packed: decode(None, packed)),
    "ours, mixing --best": Compressor(_ours_at_best, lambda packed: decode(None, packed)),
}
if shutil.which("zpaq"):
    COMPRESSORS["zpaq -m5"] = Compressor(_zpaq, _unzpaq, program=True)
if shutil.which("lpaq1"):
    COMPRESSORS["lpaq1 9"] = Compressor(
        _through("lpaq1", "9"), _through("lpaq1", "d"), program=True
    )
if shutil.which("paq8px"):
    COMPRESSORS["paq8px -8"] = Compressor(
        _through("paq8px", "-8"), _through("paq8px", "-d"), program=True
    )
