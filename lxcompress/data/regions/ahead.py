"""Read items ahead: threads make the next results while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""How many items per thread may be read before they are needed."""


def read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Iterator[Result]:
    """Yield `read(item)` for each item, in order; the `threads` of `pool` read the next AHEAD items each."""
    coming: deque[Future[Result]] = deque()
    for item in items:
        coming.append(pool.submit(read, item))
        if len(coming) > AHEAD * threads:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
