"""The processes that train one model together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """The place of this process among all processes of a run."""

    rank: int = 0
    """Index of this process, from 0 to size - 1."""
    size: int = 1
    """Number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0
