"""The time of several functions that are to be compared, taken in turns."""

import time
from collections.abc import Callable, Mapping


def best_seconds(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest time of each over so many rounds, after one that warms up."""
    for function in functions.values():
        function()
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for kind, function in functions.items():
            began = time.perf_counter()
            function()
            best[kind] = min(best[kind], time.perf_counter() - began)
    return best
