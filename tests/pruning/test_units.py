"""Laws of the choice of units: it equals the obvious loops over weights, on groups of unequal and of tiny sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import Part, UnitGroup
from lxcompress.pruning.units import choose_units
from tests.complain import complain

NEURONS = UnitGroup("neuron", "wide", 12, (Part(tensor="in", dim=0, width=1), Part(tensor="out", dim=1, width=1)))
HEADS = UnitGroup("head", "attention", 4, (Part(tensor="query", dim=0, width=3), Part(tensor="bias", dim=0, width=3)))
SMALL = UnitGroup("neuron", "narrow", 6, (Part(tensor="last", dim=0, width=1),))
GROUPS = (NEURONS, HEADS, SMALL)
SHAPES = {"in": (12, 5), "out": (7, 12), "query": (12, 4), "last": (6, 2)}
LAYERS = UnitGroup("layer", "stack", 3, tuple(Part(tensor=f"stack.{n}.a", dim=None, width=6) for n in range(3)))
LAYER_SHAPES = {f"stack.{n}.a": (2, 3) for n in range(3)}

Scores = dict[str, Tensor]


def draw(shapes: dict[str, tuple[int, int]], seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def weights_of(group: UnitGroup, unit: int, scores: Scores) -> list[float]:
    """The scores of all weights of a unit; a bias has none."""
    found: list[float] = []
    for part in group.parts:
        if part.tensor not in scores:
            continue
        if part.dim is None:
            found += scores[part.tensor].flatten().tolist() if part.tensor.startswith(f"{group.name}.{unit}.") else []
            continue
        for index in range(unit * part.width, (unit + 1) * part.width):
            found += scores[part.tensor].select(part.dim, index).tolist()
    return found


def choose_obviously(scores: Scores, groups: tuple[UnitGroup, ...], selection: Selection) -> set[tuple[str, int]]:
    """The removed units: groups of units in the order of their mean scores, until the sparsity is nearest."""
    steps = []
    for number, group in enumerate(groups):
        weights = [weights_of(group, unit, scores) for unit in range(group.units)]
        means = [sum(found) / len(found) for found in weights]
        order = sorted(range(group.units), key=lambda unit: (means[unit], -unit))
        width = group.parts[0].width
        size = 1 if group.kind == "layer" else math.lcm(width, selection.multiple) // width
        left, highest = group.units, -math.inf
        while left > size:
            count = left % size or size
            taken = [order.pop(0) for _ in range(count)]
            together = [score for unit in taken for score in weights[unit]]
            highest = max(highest, sum(together) / len(together))
            share = (group.units - left + count / 2) / group.units
            key = share if selection.scope == "layer" else 0
            steps.append((key, highest, number, [(group.name, unit) for unit in taken], len(together)))
            left -= count
    steps.sort(key=lambda step: step[:3])
    total = sum(score.numel() for score in scores.values())
    best: tuple[float, list[tuple[str, int]]] = (selection.sparsity, [])
    gone: list[tuple[str, int]] = []
    removed = 0
    for _, _, _, units, count in steps:
        gone, removed = [*gone, *units], removed + count
        best = min(best, (abs(removed / total - selection.sparsity), gone), key=lambda pair: pair[0])
    return set(best[1])


def removed_units(scores: Scores, groups: tuple[UnitGroup, ...], selection: Selection) -> set[tuple[str, int]]:
    prunable = {name: score.shape for name, score in scores.items()}
    surgery = choose_units(scores, groups, selection, prunable=prunable)
    return {(cut.name, unit) for cut in surgery.cuts for unit in range(cut.units) if unit not in cut.keep}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("multiple", [1, 2, 6])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.1, 0.2, 0.3, 0.4])
def test_the_choice_is_that_of_the_obvious_loops(sparsity, scope, multiple, seed) -> None:
    scores, selection = draw(SHAPES, seed), Selection(sparsity, "neuron+head", scope, multiple=multiple)
    assert removed_units(scores, GROUPS, selection) == choose_obviously(scores, GROUPS, selection)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sparsity", [0.3, 0.6])
def test_layers_are_those_of_the_obvious_loops(sparsity, seed) -> None:
    scores, selection = draw(LAYER_SHAPES, seed), Selection(sparsity, "layer")
    assert removed_units(scores, (LAYERS,), selection) == choose_obviously(scores, (LAYERS,), selection)


@pytest.mark.parametrize("kind", ["neuron", "head", "neuron+head"])
def test_all_but_one_unit_may_go_and_no_more(kind) -> None:
    """And only one kind of units is told that both kinds would remove more."""
    groups = tuple(group for group in GROUPS if group.kind in kind.split("+"))
    scores = draw(SHAPES, seed=0)
    units = {group.name: [weights_of(group, unit, scores) for unit in range(group.units)] for group in groups}
    gone = sum(len(weights) for found in units.values() for weights in found[1:])
    most = gone / sum(score.numel() for score in scores.values())
    assert len(removed_units(scores, groups, Selection(most, kind, multiple=1))) == sum(
        group.units - 1 for group in groups
    )
    above = Selection(most + 1e-6, kind, multiple=1)
    said = complain(lambda: removed_units(scores, groups, above), "can remove at most", "lower the sparsity")
    assert ("or use neuron+head" in said) == (kind != "neuron+head")


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5])
def test_a_sparsity_is_a_share(sparsity) -> None:
    scores = draw(SHAPES, seed=0)
    complain(
        lambda: removed_units(scores, GROUPS, Selection(sparsity, "neuron+head")), "is a share of the weights from 0 to"
    )
