"""How files are compressed: settings and their limits, nothing that takes long to load."""

from dataclasses import dataclass

from bit_transformer.errors import ConfigError

SUFFIX = ".btz"
"""What names of compressed files end in."""
MOST_BLOCK_BYTES = 1 << 28
LEAST_TABLE_BITS, MOST_TABLE_BITS = 10, 24
MAX_LANES = 1024


@dataclass(frozen=True)
class CodecConfig:
    """How files are compressed. A decoder finds all of it in the file."""

    block_bytes: int = 16 << 20
    """Blocks are independent: damage stays in one, and memory grows with this. Larger blocks are
    smaller files."""
    segment_bytes: int = 1 << 18
    """Damage in a block leaves what is in the segments before it."""
    table_bits: int = 22
    """The mixer's hash table has up to 2**table_bits entries of 64 bytes. A larger one makes files
    of some megabytes a little smaller."""
    best: bool = False
    """Text is predicted from twice the contexts, in twice the time; so it is with a model anyway,
    beside which that time hardly matters."""
    lanes: int = 1
    """Stretches of a block that a model reads at a time, each without what the others have just
    read: with four, files are up to 4 % larger, and a small model is hardly faster."""
    verify: bool = True
    """Decode all that is written, beside encoding it."""

    def __post_init__(self) -> None:
        limits = {
            "block_bytes": (1, MOST_BLOCK_BYTES),
            "table_bits": (LEAST_TABLE_BITS, MOST_TABLE_BITS),
            "lanes": (1, MAX_LANES),
        }
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be in [{least}, {most}], got {getattr(self, name)}")
        if not 1 <= self.segment_bytes <= self.block_bytes:
            raise ConfigError(
                f"segment_bytes must be in [1, block_bytes={self.block_bytes}], got "
                f"{self.segment_bytes}"
            )


DEFAULT_CONFIG = CodecConfig()
