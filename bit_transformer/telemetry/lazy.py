"""Readings computed when they are looked at: telemetry that nobody reads costs nothing."""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor


class LazyReadings(Mapping[str, Tensor]):
    """A read-only mapping from names to tensors, each computed at its first look-up."""

    def __init__(self, **sources: Callable[[], Tensor]) -> None:
        self._sources = sources
        self._values: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._values:
            self._values[name] = self._sources[name]()
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def including(self, **sources: Callable[[], Tensor]) -> "LazyReadings":
        """These readings and more; what was computed before is not computed again."""
        own = {name: (lambda name=name: self[name]) for name in self._sources}
        return LazyReadings(**own, **sources)
