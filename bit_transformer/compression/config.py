"""Settings of the codec and their limits. The module imports nothing slow: --help needs it."""

from dataclasses import dataclass

from bit_transformer.errors import require

SUFFIX = ".btz"
"""The ending of a compressed file's name."""
MAX_BLOCK_BYTES = 1 << 28
MIN_TABLE_BITS, MAX_TABLE_BITS = 10, 24
MAX_LANES = 1024


@dataclass(frozen=True)
class CodecConfig:
    """How files are compressed. A decoder finds all of these settings in the file."""

    block_bytes: int = 16 << 20
    """Bytes per block. Blocks are independent: damage stays within one. Larger blocks make smaller
    files and need more memory."""
    segment_bytes: int = 1 << 18
    """Bytes per segment. In a damaged block, the segments before the damage can be recovered."""
    table_bits: int = 22
    """The mixer's hash table has at most 2**table_bits entries of 64 bytes. A larger table makes
    files of several megabytes a little smaller."""
    best: bool = False
    """Predict text from 30 contexts instead of 16, which takes twice the time. With a model this is
    always done, because the model takes far longer."""
    lanes: int = 1
    """Stretches of a block that a model reads in parallel. A lane does not see what the others have
    just read: four lanes make files up to 4 % larger, and hardly speed up a small model."""
    verify: bool = True
    """Decode each block while it is encoded, and compare."""

    def __post_init__(self) -> None:
        limits = {
            "block_bytes": (1, MAX_BLOCK_BYTES),
            "table_bits": (MIN_TABLE_BITS, MAX_TABLE_BITS),
            "lanes": (1, MAX_LANES),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            require(low <= value <= high, name, value, f"in [{low}, {high}]")
        limit = f"in [1, block_bytes={self.block_bytes}]"
        fits = 1 <= self.segment_bytes <= self.block_bytes
        require(fits, "segment_bytes", self.segment_bytes, limit)


DEFAULT_CONFIG = CodecConfig()
