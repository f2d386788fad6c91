"""Times of several functions that are compared with each other."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Key = TypeVar("Key")


def best_seconds(
    functions: Mapping[Key, Callable[[], object]],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, float]:
    """Shortest time of each function over `rounds` rounds, after one call that warms up.

    The functions take turns within a round, so that a busy machine slows down all of them.
    """
    for function in functions.values():
        function()
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for key, function in functions.items():
            began = clock()
            function()
            best[key] = min(best[key], clock() - began)
    return best
