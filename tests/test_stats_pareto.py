"""The Pareto front equals its definition, row by row."""

from __future__ import annotations

import random

import pytest

from lxcompress.stats import dominates, pareto_front


def chance_points(seed: int) -> list[tuple[float, ...]]:
    """Points of few values, so that ties and equal rows are frequent."""
    chance = random.Random(seed)
    width = chance.randint(1, 4)
    return [tuple(float(chance.randint(0, 4)) for _ in range(width)) for _ in range(chance.randint(0, 40))]


def obvious(points):
    """By definition: no other is as small everywhere and smaller somewhere."""
    return [
        one
        for one in points
        if not any(
            all(theirs <= mine for theirs, mine in zip(other, one, strict=True))
            and any(theirs < mine for theirs, mine in zip(other, one, strict=True))
            for other in points
        )
    ]


@pytest.mark.parametrize("seed", range(40))
def test_the_front_is_its_definition(seed):
    points = chance_points(seed)
    rows = list(enumerate(points))
    front = pareto_front(rows, better=lambda row: row[1])
    assert [point for _, point in front] == obvious(points)
    assert [number for number, _ in front] == sorted(number for number, _ in front)


@pytest.mark.parametrize("seed", range(10))
def test_the_front_of_the_front_is_the_front_and_every_other_row_is_dominated(seed):
    points = chance_points(seed)
    front = pareto_front(points, better=lambda point: point)
    assert pareto_front(front, better=lambda point: point) == front
    assert all(any(dominates(one, other) for one in front) for other in points if other not in front)


def test_equal_rows_all_stay_and_keep_their_order():
    rows = [("b", 1.0, 2.0), ("a", 1.0, 2.0), ("worse", 1.0, 3.0), ("c", 2.0, 1.0)]
    assert [name for name, *_ in pareto_front(rows, better=lambda row: row[1:])] == ["b", "a", "c"]


def test_what_is_not_a_number_has_no_place_in_an_order():
    with pytest.raises(AssertionError, match="not a number"):
        pareto_front([float("nan")], better=lambda value: (value,))


def test_rows_of_unlike_coordinates_have_no_order():
    with pytest.raises(AssertionError, match="same coordinates"):
        pareto_front([(1.0,), (1.0, 2.0)], better=lambda point: point)
