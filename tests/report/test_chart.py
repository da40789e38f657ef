"""The chart's laws: everything lies within its frame, labels keep apart, ticks are round."""

from __future__ import annotations

import itertools
import random

import pytest

from lxcompress.report.chart import Frame, accuracy_axis, sparsity_axis, spread_apart


@pytest.mark.parametrize("seed", range(20))
def test_axes_hold_their_values(seed):
    chance = random.Random(seed)
    values = [chance.random() for _ in range(chance.randint(1, 9))]
    for axis in (accuracy_axis(values), sparsity_axis(values)):
        assert axis.low < axis.high
        assert axis.low - 1e-9 <= min(values) <= max(values) <= axis.high + 1e-9
        assert axis.ticks[0] == pytest.approx(axis.low)
        assert axis.ticks[-1] == pytest.approx(axis.high)


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5, 0.5], [0.7027, 0.7031]])
def test_axes_hold_the_edges_and_what_does_not_vary(values):
    axis = accuracy_axis(values)
    assert 0 <= axis.low < axis.high <= 1
    assert len(axis.ticks) <= 10


@pytest.mark.parametrize("seed", range(20))
def test_labels_keep_apart_and_in_order(seed):
    chance = random.Random(seed)
    places = sorted(chance.uniform(0, 200) for _ in range(chance.randint(1, 10)))
    moved = spread_apart(places, gap=15, low=0, high=200)
    assert all(after - before >= 15 - 1e-9 for before, after in itertools.pairwise(moved))
    assert min(moved) >= -1e-9
    assert max(moved) <= 200 + 1e-9


def test_labels_that_are_apart_stay_where_they_are():
    assert spread_apart([10, 50, 90], gap=15, low=0, high=100) == [10, 50, 90]


def test_the_frame_maps_its_corners():
    frame = Frame(10, 20, 110, 220, sparsity_axis([0.0, 1.0]), accuracy_axis([0.0, 1.0]))
    assert (frame.at_x(0), frame.at_x(1)) == (10, 110)
    assert (frame.at_y(0), frame.at_y(1)) == (220, 20)
