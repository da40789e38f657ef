"""The Pareto front: what nothing else beats in everything at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Coordinates = tuple[float, ...]


def pareto(rows: Sequence[T], *, better: Callable[[T], Coordinates]) -> list[T]:
    """The rows, in order, that no other dominates: none is as small in every coordinate of `better` and smaller in one.

    Rows of equal coordinates dominate neither one another. A coordinate is a number, infinity being one.
    """
    points = [better(row) for row in rows]
    assert len({len(point) for point in points}) <= 1, "rows are compared in the same coordinates"
    assert not any(value != value for point in points for value in point), "a coordinate is not a number"
    # In sorted order nothing that comes later dominates what came before, so each is held against the front so far.
    front: list[Coordinates] = []
    for point in sorted(set(points)):
        if not any(dominates(other, point) for other in front):
            front.append(point)
    kept = set(front)
    return [row for row, point in zip(rows, points, strict=True) if point in kept]


def dominates(one: Coordinates, other: Coordinates) -> bool:
    """Whether `one` is as small as `other` in every coordinate, and smaller in at least one."""
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
