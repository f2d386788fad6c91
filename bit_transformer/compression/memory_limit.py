"""The limit on the memory that compressing and decompressing may take."""

import os
import re
from pathlib import Path

from bit_transformer.errors import ConfigError, MemoryLimitError

_SIZE = re.compile(r"([0-9]{1,15})(?:\s*([kmgt])?(?:i?b)?|(%))", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 512MiB, 2G, or 50% of this machine's memory.

    Units are powers of 1024, as in xz. Raises `ConfigError` for anything else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"a size must be a number like 512MiB, 2GiB or 50%, got {text!r}")
    number, unit, percent = found.groups()
    size = int(number) * machine_memory() // 100 if percent else int(number) << _UNITS[_key(unit)]
    if size < 1:
        raise ConfigError(f"a size must be at least one byte, got {text!r}")
    return size


def default_memory_limit() -> int:
    """Return half of this machine's memory."""
    return machine_memory() // 2


def machine_memory() -> int:
    """Return this machine's memory in bytes, or the limit of this process's control group."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(_CONTROL_GROUP.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return physical


def check_memory(needed: int, limit: int | None, what: str) -> None:
    """Raise `MemoryLimitError` if the work named by `what` needs more memory than the limit."""
    if limit is not None and needed > limit:
        raise MemoryLimitError(
            f"{what} needs {shown(needed)} of memory, the limit is {shown(limit)}; "
            f"--memory-limit {-(-needed // (1 << 20))}MiB allows it"
        )


def shown(size: int) -> str:
    """Return a size in MiB for people to read."""
    return f"{-(-size // (1 << 20)):,} MiB"


def _key(unit: str | None) -> str:
    return (unit or "").lower()
