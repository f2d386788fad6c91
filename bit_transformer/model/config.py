"""Every size and switch of a network, validated once, and the presets."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from bit_transformer.bits.codec import bits_per_symbol
from bit_transformer.errors import ConfigError, UnsupportedCombination, require
from bit_transformer.settings import Settings

MAX_PATCH_SIZE = 12
MAX_MEMORY_SLOTS = 1 << 24

PresetName = Literal["tiny", "small", "medium", "large"]


@dataclass(frozen=True)
class LayerWidths(Settings):
    """Sizes of one block that pruning can change."""

    nhead: int
    """Attention heads."""
    dim_feedforward: int
    """Hidden width of the feed-forward branch."""

    def __post_init__(self) -> None:
        require(self.nhead >= 1, "nhead", self.nhead, "at least 1")
        require(self.dim_feedforward >= 1, "dim_feedforward", self.dim_feedforward, "at least 1")


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The architecture of a network. Lengths are in bits, widths in channels.

    Raises `ConfigError` when a field has an invalid value or two fields exclude each other.
    """

    d_model: int = 128
    """Width D of the residual stream."""
    nhead: int = 4
    """Attention heads H; each is d_model / nhead wide, an even number."""
    num_layers: int = 4
    """Blocks in the trunk."""
    dim_feedforward: int = 512
    """Hidden width F of the feed-forward branch."""
    max_seq_len: int = 4096
    """Context in bits: the longest sequence one forward pass takes."""
    patch_size: int = 8
    """Bits P that enter the trunk as one position: 1 to 12, 9 with parity."""
    parity: bool = False
    """The bits carry an even parity bit after each byte (9 bits a byte)."""
    dropout: float = 0.0
    """Rate at which channels of each residual branch are dropped in training."""
    memory_bits: tuple[int, ...] = (16, 24, 32, 40, 48, 64)
    """Spans of recent bits that the context memory looks up; empty: no memory."""
    memory_slots: int = 1 << 16
    """Rows per span in the memory's hash table, a power of two."""
    memory_width: int = 32
    """Channels per row of the memory."""
    memory_dropout: float = 0.0
    """Rate at which channels of looked-up rows are dropped in training; needed when training goes
    over the same data more than once."""
    leaf_logits: bool = False
    """The head also has a logit for each patch value, as a softmax has. A node adds the log-odds of
    the values on its two sides to its own logit. This predicts better and costs a second product of
    the head's size."""
    logit_cap: float = 0.0
    """Soft cap c of the logits: c * tanh(logit / c). It limits overconfidence on small data: no bit
    costs less than log2(1 + e**-c) bits. 0: no cap."""
    rotary_base: float = 10_000.0
    """Base (theta) of the rotary position frequencies."""
    reversible: bool = False
    """The trunk has two residual streams. The backward pass computes their activations again
    instead of storing them."""
    chunk_size: int | None = None
    """Bits per attention chunk: a position attends within its chunk, to the overlap before it and
    to the start. None: to the whole context."""
    overlap: int = 0
    """Bits before its chunk that a position also attends to."""
    use_act: bool = False
    """Adaptive computation: a position exits once its halting probability passes a threshold."""
    act_threshold: float = 0.9
    """Cumulative halting probability at which a position exits; 1: never before the last block."""
    ponder_cost: float = 0.05
    """With use_act: the compute penalty in the loss of the halting units. It is the bits per byte
    charged to a position that runs through all blocks."""

    def __post_init__(self) -> None:
        for name in ("d_model", "nhead", "num_layers", "dim_feedforward", "memory_width"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        self._check_heads()
        self._check_patches()
        self._check_memory()
        self._check_chunks()
        self._check_halting()
        for name in ("dropout", "memory_dropout"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(self.logit_cap >= 0, "logit_cap", self.logit_cap, "at least 0")
        require(
            math.isfinite(self.logit_cap),
            "logit_cap",
            self.logit_cap,
            "finite; 0 turns the cap off",
        )
        require(self.rotary_base > 1, "rotary_base", self.rotary_base, "above 1")

    def _check_heads(self) -> None:
        if self.d_model % self.nhead:
            raise ConfigError(
                f"d_model must be divisible by nhead, got {self.d_model} and {self.nhead}; "
                f"try nhead={_largest_divisor(self.d_model, self.nhead)}"
            )
        if self.head_width % 2:
            raise ConfigError(
                f"d_model / nhead must be even for rotary positions, got {self.head_width}; "
                "change d_model or nhead"
            )

    def _check_patches(self) -> None:
        limit = f"1 to {MAX_PATCH_SIZE}"
        require(1 <= self.patch_size <= MAX_PATCH_SIZE, "patch_size", self.patch_size, limit)
        if self.parity and self.patch_size != bits_per_symbol(True):
            raise ConfigError(
                f"parity needs patch_size=9 (eight bits and their parity), got {self.patch_size}"
            )
        if self.max_seq_len < self.patch_size:
            raise ConfigError(
                f"max_seq_len must hold a patch of {self.patch_size} bits, got {self.max_seq_len}; "
                "it counts bits, not bytes"
            )

    def _check_memory(self) -> None:
        slots = self.memory_slots
        power_of_two = 1 <= slots <= MAX_MEMORY_SLOTS and slots & (slots - 1) == 0
        limit = f"a power of two up to {MAX_MEMORY_SLOTS}"
        require(power_of_two, "memory_slots", slots, limit)
        for span in self.memory_bits:
            require(span >= 1, "memory_bits", span, "spans of at least 1 bit")

    def _check_chunks(self) -> None:
        if self.chunk_size is None:
            if self.overlap:
                raise ConfigError(
                    f"overlap={self.overlap} needs a chunk_size that is larger, in bits"
                )
            return
        for name, value, least in (
            ("chunk_size", self.chunk_size, 1),
            ("overlap", self.overlap, 0),
        ):
            if value < least * self.patch_size or value % self.patch_size:
                nearest = max(least, round(value / self.patch_size)) * self.patch_size
                raise ConfigError(
                    f"{name} must be whole patches of {self.patch_size} bits, at least {least}, "
                    f"got {value} bits; try {nearest}"
                )
        if not self.overlap < self.chunk_size:
            raise ConfigError(
                f"overlap must be below chunk_size, got {self.overlap} and {self.chunk_size} bits"
            )
        if self.chunk_size > self.max_seq_len:
            raise ConfigError(
                f"chunk_size must be at most max_seq_len={self.max_seq_len} bits, got "
                f"{self.chunk_size}; leave it out for attention over the whole context"
            )

    def _check_halting(self) -> None:
        require(0 < self.act_threshold <= 1, "act_threshold", self.act_threshold, "in (0, 1]")
        cost = self.ponder_cost
        require(0 <= cost < math.inf, "ponder_cost", cost, "at least 0 and finite")
        if self.use_act and self.reversible:
            raise UnsupportedCombination(
                "use_act and reversible exclude each other: a position that exits early leaves no "
                "output from which a reversible stack could recompute its inputs; to save memory "
                "with use_act, set use_checkpoint"
            )

    @property
    def head_width(self) -> int:
        """Width K of one attention head."""
        return self.d_model // self.nhead

    @property
    def memory_orders(self) -> tuple[int, ...]:
        """The memory's spans in whole patches, ascending and without duplicates."""
        return tuple(sorted({max(1, span // self.patch_size) for span in self.memory_bits}))

    @property
    def context_patches(self) -> int:
        """Patches of a full context. The last one may be incomplete."""
        return -(-self.max_seq_len // self.patch_size)

    @property
    def chunk_patches(self) -> int:
        """Patches per attention chunk. Without chunks: all patches of a context."""
        size = self.chunk_size
        return self.context_patches if size is None else size // self.patch_size

    @property
    def overlap_patches(self) -> int:
        """Patches before its chunk that a position also attends to."""
        return self.overlap // self.patch_size

    @property
    def bits_per_byte(self) -> int:
        """Bits that stand for one byte of data: 8, or 9 with parity."""
        return bits_per_symbol(self.parity)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self) | {"memory_bits": list(self.memory_bits)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ModelConfig":
        """The config that `to_dict` wrote. Raises `ConfigError` for an unknown field."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ConfigError(f"unknown model settings {unknown}; use some of {sorted(known)}")
        spans = tuple(fields.get("memory_bits", cls.memory_bits))
        return cls(**{**fields, "memory_bits": spans})


def _largest_divisor(width: int, at_most: int) -> int:
    return next(n for n in range(min(width, at_most), 0, -1) if width % n == 0)


_PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(d_model=128, nhead=2, num_layers=6, dim_feedforward=512, max_seq_len=2048),
    "small": ModelConfig(
        d_model=256, nhead=4, num_layers=6, dim_feedforward=1024, max_seq_len=4096
    ),
    "medium": ModelConfig(
        d_model=512, nhead=8, num_layers=8, dim_feedforward=2048, max_seq_len=8192
    ),
    "large": ModelConfig(
        d_model=1024,
        nhead=16,
        num_layers=16,
        dim_feedforward=4096,
        max_seq_len=16384,
        memory_slots=1 << 18,
        memory_width=64,
    ),
}


def preset(name: str) -> ModelConfig:
    """The configuration of this name, from tiny (1.5 M trunk parameters) to large (200 M)."""
    if name not in _PRESETS:
        raise ConfigError(f"there is no preset {name!r}; use one of {', '.join(_PRESETS)}")
    return _PRESETS[name]
