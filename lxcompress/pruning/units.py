"""Units: which neurons, heads and layers stay, by the scores of the weights that they are made of.

The rule is one for both scopes. The units of a group go from the lowest mean score per weight to the highest, in steps
that keep its width a multiple of what hardware likes; all groups' steps are put in one order, and the first so many of
them are taken that the sparsity is nearest to what was asked for. In scope layer the order is that of the share that a
group has lost, so that all lose alike, to within one step; in scope global it is that of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.mask import Weights
from lxcompress.pruning.surgery import Cut, Group, Shapes, Surgery, find_groups, unit_of
from lxcompress.units import short_percent

MULTIPLE = 8
"""Kept widths are multiples of it: vectors of 8 floats, tensor cores."""
SCOPES = ("layer", "global")
ROUNDING = 1e-9
"""Of shares as floats, not a tolerance."""


@dataclass(frozen=True)
class Step:
    """Units of a group that go together, after those of the group's steps before."""

    group: int
    units: tuple[int, ...]
    share: float
    """of the group's units, what is gone in the middle of the step: -1 if an earlier surgery took them"""
    score: float
    """mean score of a weight"""
    weights: int


def choose_units(
    scores: Weights,
    groups: Sequence[Group],
    *,
    prunable: Shapes,
    sparsity: float,
    scope: str,
    multiple: int = MULTIPLE,
    within: Surgery | None = None,
    keep_dense: Collection[str] = (),
) -> Surgery:
    """The Surgery that removes the share `sparsity` of the `prunable` weights, as nearly as the units allow.

    `scores` has the scores of every prunable matrix, by name. Kept widths are multiples of `multiple`, heads and layers
    are whole, and of each group one step at least stays. What `within` cut is cut here too. Groups with a matrix of
    `keep_dense` stay whole, and `sparsity` is that of the other matrices. One too small to cut anything, as a gradual
    schedule begins with, cuts nothing. Raises PruneError.
    """
    groups, prunable = _without(groups, prunable, keep_dense)
    mean_scores = [_score_units(group, scores, prunable) for group in groups]
    return _choose(mean_scores, groups, prunable, sparsity, scope, multiple, within)[0]


def check_structured(
    model: Model,
    granularity: str,
    sparsity: float,
    *,
    scope: str = "layer",
    multiple: int = MULTIPLE,
    keep_dense: Collection[str] = (),
    groups: tuple[Group, ...] | None = None,
) -> tuple[Group, ...]:
    """All groups of the model, found here unless given.

    Raises PruneError if, whatever the scores, it cannot be cut so, or would stay whole.
    """
    if not 0 < sparsity < 1:
        raise PruneError(f"sparsity {sparsity:g}: is a share of the weights between 0 and 1, such as 0.5 for 50 %")
    found = find_groups(model, granularity.split("+")) if groups is None else groups
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    left, prunable = _without(found, shapes, keep_dense)
    nothing = [torch.zeros(group.units) for group in left]
    surgery, reached = _choose(nothing, left, prunable, sparsity, scope, multiple, None)
    if not surgery.cuts:
        raise PruneError(
            f"{granularity}: the least that can be removed is {100 * reached[1]:.1f} % of the prunable weights, and "
            f"{short_percent(sparsity)} % is nearer to none; raise the sparsity"
        )
    return found


def _without(groups: Sequence[Group], prunable: Shapes, keep_dense: Collection[str]) -> tuple[list[Group], Shapes]:
    """The groups and the prunable matrices less `keep_dense`. Raises PruneError for none left, or an unknown name."""
    unknown = sorted(set(keep_dense) - set(prunable))
    if unknown:
        raise PruneError(f"keep_dense: the model has no prunable weight {unknown[0]}; name one that it has")
    left = [group for group in groups if not any(part.tensor in keep_dense for part in group.parts)]
    if not left:
        raise PruneError("keep_dense: leaves no group that could be cut; list fewer weights")
    return left, {name: shape for name, shape in prunable.items() if name not in keep_dense}


def _choose(
    mean_scores: Sequence[Tensor],
    groups: Sequence[Group],
    prunable: Shapes,
    sparsity: float,
    scope: str,
    multiple: int,
    within: Surgery | None,
) -> tuple[Surgery, list[float]]:
    """The Surgery, and all sparsities that there are."""
    name = "+".join(dict.fromkeys(group.kind for group in groups))
    if scope not in SCOPES:
        raise PruneError(f"scope {scope}: granularity {name} has scope layer or global")
    if not 0 <= sparsity < 1:
        raise PruneError(f"sparsity {sparsity:g}: is a share of the weights from 0 to below 1, such as 0.5 for 50 %")
    gone = {cut.name: set(range(cut.units)) - set(cut.keep) for cut in within.cuts} if within else {}
    steps = [
        step
        for number, (group, scored) in enumerate(zip(groups, mean_scores, strict=True))
        for step in _steps(number, group, scored, prunable, multiple, gone.get(group.name, set()))
    ]
    steps.sort(key=lambda step: (step.share, step.score) if scope == "layer" else (min(step.share, 0), step.score))
    reached = _reach(steps, groups, prunable)
    if sparsity > reached[-1] + ROUNDING:
        more = "" if name in ("neuron+head", "layer") else ", or use neuron+head"
        raise PruneError(
            f"{name}: can remove at most {100 * reached[-1]:.1f} % of the prunable weights without emptying a "
            f"{_WHAT[name]}, and {short_percent(sparsity)} % were asked for; lower the sparsity{more}"
        )
    first = sum(step.share < 0 for step in steps)
    taken = min(range(first, len(reached)), key=lambda number: abs(reached[number] - sparsity))
    return _cut(steps[:taken], groups), reached


_WHAT = {
    "neuron": "feed-forward",
    "head": "head group",
    "layer": "stack of layers",
    "neuron+head": "feed-forward or head group",
}


def _score_units(group: Group, scores: Weights, prunable: Shapes) -> Tensor:
    """float64 [U]: of each unit, the sum of its weights' scores over its number of weights."""
    total = torch.zeros(group.units, dtype=torch.float64)
    for part in group.parts:
        if part.tensor not in prunable:
            continue
        if part.tensor not in scores:
            raise PruneError(f"{part.tensor}: has no score; score every prunable weight of the model")
        if scores[part.tensor].shape != prunable[part.tensor]:
            raise PruneError(f"{part.tensor}: has scores of another shape; score the weights of this model")
        score = scores[part.tensor]
        if part.dim is None:
            total[unit_of(part.tensor, group.name)] += score.sum(dtype=torch.float64)
        else:
            along = score.sum(dim=1 - part.dim, dtype=torch.float64)
            total += along.view(group.units, part.width).sum(1)
    return total / torch.tensor(_unit_sizes(group, prunable), dtype=torch.float64)


def _unit_sizes(group: Group, prunable: Shapes) -> list[int]:
    """The prunable weights of each unit."""
    sizes = [0] * group.units
    for part in group.parts:
        if part.tensor not in prunable:
            continue
        if part.dim is None:
            sizes[unit_of(part.tensor, group.name) or 0] += part.width
        else:
            each = prunable[part.tensor].numel() // group.units
            sizes = [size + each for size in sizes]
    return sizes


def _steps(
    number: int, group: Group, scored: Tensor, prunable: Shapes, multiple: int, gone: set[int]
) -> Iterator[Step]:
    """The steps in which a group can be cut, the lowest scores first; its last stays. Among equals the later goes."""
    values, sizes = scored.tolist(), _unit_sizes(group, prunable)
    width = 1 if group.kind == "layer" else group.parts[0].width
    size = 1 if group.kind == "layer" else math.lcm(width, multiple) // width
    order = sorted(range(group.units), key=lambda unit: (unit not in gone, values[unit], -unit))
    ends = range(group.units % size or size, group.units, size)
    start, highest = 0, -math.inf
    for end in ends:
        units = tuple(order[start:end])
        weights = sum(sizes[unit] for unit in units)
        highest = max(highest, sum(values[unit] * sizes[unit] for unit in units) / weights)
        share = (start + end) / 2 / group.units if gone.isdisjoint(units) else -1.0
        yield Step(number, units, share, highest, weights)
        start = end


def _reach(steps: Sequence[Step], groups: Sequence[Group], prunable: Shapes) -> list[float]:
    """The sparsity after none, the first, the first two ... of the steps."""
    total = sum(shape.numel() for shape in prunable.values())
    if any(group.kind == "layer" for group in groups):  # a few steps, after which some of what is kept may be dead
        return [_cut(steps[:count], groups).count(total, total, prunable).achieved for count in range(len(steps) + 1)]
    reached, removed = [0.0], 0
    for step in steps:
        removed += step.weights
        reached.append(removed / total)
    return reached


def _cut(steps: Sequence[Step], groups: Sequence[Group]) -> Surgery:
    gone: dict[int, set[int]] = {}
    for step in steps:
        gone.setdefault(step.group, set()).update(step.units)
    return Surgery(
        cuts=tuple(
            Cut(
                kind=groups[number].kind,
                name=groups[number].name,
                units=groups[number].units,
                keep=tuple(unit for unit in range(groups[number].units) if unit not in gone[number]),
                parts=groups[number].parts,
            )
            for number in sorted(gone)
        )
    )
