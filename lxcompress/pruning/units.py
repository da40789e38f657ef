"""Choose which neurons, attention heads and layers to keep, by the scores of the weights that they consist of.

Both scopes use one rule. Within a group, units are removed in order of their mean score per weight, lowest first. They
are removed in steps that keep the width of the group a multiple of `Selection.multiple`. The steps of all groups are
sorted, and steps are taken from the front until the sparsity is nearest to the requested one. For scope layer the steps
are sorted by the fraction of their group that is removed after them, so that all groups lose the same fraction, within
one step. For scope global they are sorted by score.
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
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import GroupCut, Shapes, Surgery, UnitGroup, find_groups, unit_of
from lxcompress.units import short_percent

SCOPES = ("layer", "global")
ROUNDING = 1e-9
"""The rounding error of sparsities that are computed as floats."""
_GROUP_NOUNS = {
    "neuron": "feed-forward",
    "head": "head group",
    "layer": "stack of layers",
    "neuron+head": "feed-forward or head group",
}


@dataclass(frozen=True)
class RemovalStep:
    """Units of one group that are removed together, after the units of the earlier steps of the group."""

    group: int
    """index of the group"""
    units: tuple[int, ...]
    share: float
    """fraction of the group's units (0-1) that is removed in the middle of the step; -1 for units that an earlier
    surgery removed"""
    score: float
    """mean score of the step's weights, or that of an earlier step of the group if it is higher"""
    weights: int
    """number of prunable weights of the units"""


def choose_units(
    scores: Weights,
    groups: Sequence[UnitGroup],
    selection: Selection,
    *,
    prunable: Shapes,
    within: Surgery | None = None,
) -> Surgery:
    """Return the Surgery whose sparsity is nearest to the requested one. Raises PruneError.

    `scores` has the scores of every prunable matrix, by name. Kept widths are multiples of `selection.multiple`. Heads
    and layers are removed whole, and each group keeps the units of at least one step. Units that the surgery `within`
    removed are removed here too. Groups with a matrix in `keep_dense` are not cut, and the sparsity counts the other
    matrices only. A gradual schedule begins with a sparsity below that of the first step, for which nothing is removed.
    """
    groups, prunable = _without_dense(groups, prunable, selection.keep_dense)
    steps = _sort_steps(
        [_score_units(group, scores, prunable) for group in groups], groups, prunable, selection, within
    )
    return _take_steps(steps, groups, prunable, selection)[0]


def check_structured(
    model: Model, selection: Selection, *, groups: tuple[UnitGroup, ...] | None = None
) -> tuple[UnitGroup, ...]:
    """Return all groups of the model; they are searched for unless `groups` is given.

    Raises PruneError if the model cannot be cut by `selection`, whatever the scores are, or if nothing would be
    removed.
    """
    sparsity, granularity = selection.sparsity, selection.granularity
    if not 0 < sparsity < 1:
        raise PruneError(f"sparsity {sparsity:g}: is a share of the weights between 0 and 1, such as 0.5 for 50 %")
    found = find_groups(model, granularity.split("+")) if groups is None else groups
    if not found:
        raise PruneError(
            f"granularity {granularity}: this {model.family.title} has no such units to remove; give weight "
            "or a block, or one that lxcompress inspect names"
        )
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    pruned, prunable = _without_dense(found, shapes, selection.keep_dense)
    steps = _sort_steps([torch.zeros(group.units) for group in pruned], pruned, prunable, selection, None)
    surgery, sparsities = _take_steps(steps, pruned, prunable, selection)
    if not surgery.cuts:
        raise PruneError(
            f"granularity {granularity}: {short_percent(sparsity)} % is too little; at least {100 * sparsities[1]:.1f} "
            "% of "
            "the prunable weights must be removed; raise the sparsity"
        )
    return found


def _without_dense(
    groups: Sequence[UnitGroup], prunable: Shapes, keep_dense: Collection[str]
) -> tuple[list[UnitGroup], Shapes]:
    """Return the groups that have no matrix in `keep_dense`, and the prunable matrices that are not in `keep_dense`.

    Raises PruneError for an unknown name in `keep_dense`, or if no group is left.
    """
    unknown = sorted(set(keep_dense) - set(prunable))
    if unknown:
        raise PruneError(f"keep_dense: the model has no prunable weight {unknown[0]}; name one that it has")
    left = [group for group in groups if not any(part.tensor in keep_dense for part in group.parts)]
    if not left:
        raise PruneError("keep_dense: no group is left that could be pruned; list fewer weights")
    return left, {name: shape for name, shape in prunable.items() if name not in keep_dense}


def _sort_steps(
    mean_scores: Sequence[Tensor],
    groups: Sequence[UnitGroup],
    prunable: Shapes,
    selection: Selection,
    within: Surgery | None,
) -> list[RemovalStep]:
    """Return the steps of all groups in the order in which they are taken; units that `within` removed come first.

    `mean_scores` has the scores of the units of each group. Raises PruneError for a scope other than layer and global,
    and for a sparsity outside of 0-1.
    """
    if selection.scope not in SCOPES:
        raise PruneError(
            f"scope {selection.scope}: granularity {_kinds(groups)} does not support it; give scope layer or global"
        )
    if not 0 <= selection.sparsity < 1:
        raise PruneError(
            f"sparsity {selection.sparsity:g}: is a share of the weights from 0 to below 1, such as 0.5 for 50 %"
        )
    removed = {cut.name: set(range(cut.units)) - set(cut.keep) for cut in within.cuts} if within else {}
    steps: list[RemovalStep] = []
    for index, (group, group_scores) in enumerate(zip(groups, mean_scores, strict=True)):
        size = _step_size(group, selection.multiple)
        unit_sizes = _unit_sizes(group, prunable)
        steps += _group_steps(index, group_scores, unit_sizes, size, removed.get(group.name, set()))
    by_share = selection.scope == "layer"
    return sorted(steps, key=lambda step: (step.share if by_share else min(step.share, 0), step.score))


def _take_steps(
    steps: Sequence[RemovalStep], groups: Sequence[UnitGroup], prunable: Shapes, selection: Selection
) -> tuple[Surgery, list[float]]:
    """Return the Surgery with the sparsity nearest to the requested one, and the list of all sparsities in reach.

    Raises PruneError if the requested sparsity is above the highest one in reach.
    """
    sparsities = _reachable_sparsities(steps, groups, prunable)
    if selection.sparsity > sparsities[-1] + ROUNDING:
        kinds = _kinds(groups)
        more = "" if kinds in ("neuron+head", "layer") else ", or use neuron+head"
        raise PruneError(
            f"granularity {kinds}: can remove at most {100 * sparsities[-1]:.1f} % of the prunable weights without "
            "emptying a "
            f"{_GROUP_NOUNS[kinds]}, and {short_percent(selection.sparsity)} % is requested; lower the sparsity{more}"
        )
    first = sum(step.share < 0 for step in steps)  # the units that an earlier surgery removed are always removed
    count = min(range(first, len(sparsities)), key=lambda taken: abs(sparsities[taken] - selection.sparsity))
    return _to_surgery(steps[:count], groups), sparsities


def _kinds(groups: Sequence[UnitGroup]) -> str:
    """Return the granularity of the groups, such as neuron+head."""
    return "+".join(dict.fromkeys(group.kind for group in groups))


def _score_units(group: UnitGroup, scores: Weights, prunable: Shapes) -> Tensor:
    """Return float64 [U]: for each unit, the sum of its weights' scores divided by its number of weights."""
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


def _unit_sizes(group: UnitGroup, prunable: Shapes) -> list[int]:
    """Return the number of prunable weights of each unit."""
    sizes = [0] * group.units
    for part in group.parts:
        if part.tensor not in prunable:
            continue
        if part.dim is None:
            sizes[unit_of(part.tensor, group.name) or 0] += part.width
        else:
            share = prunable[part.tensor].numel() // group.units
            sizes = [size + share for size in sizes]
    return sizes


def _step_size(group: UnitGroup, multiple: int) -> int:
    """Return how many units a step removes, so that the remaining width stays a multiple of `multiple`."""
    if group.kind == "layer":
        return 1
    width = group.parts[0].width
    return math.lcm(width, multiple) // width


def _group_steps(
    group: int, mean_scores: Tensor, unit_sizes: Sequence[int], step_size: int, removed: Collection[int]
) -> Iterator[RemovalStep]:
    """Yield the steps of the group with index `group`, those with the lowest scores first.

    The units with the highest scores are in no step, so that they are always kept. Of equal scores, the later unit is
    removed first. Units in `removed` come before all others.
    """
    values, units = mean_scores.tolist(), len(unit_sizes)
    order = sorted(range(units), key=lambda unit: (unit not in removed, values[unit], -unit))
    start, highest = 0, -math.inf
    for end in range(units % step_size or step_size, units, step_size):
        in_step = tuple(order[start:end])
        weights = sum(unit_sizes[unit] for unit in in_step)
        highest = max(highest, sum(values[unit] * unit_sizes[unit] for unit in in_step) / weights)
        share = (start + end) / 2 / units if set(removed).isdisjoint(in_step) else -1.0
        yield RemovalStep(group, in_step, share, highest, weights)
        start = end


def _reachable_sparsities(steps: Sequence[RemovalStep], groups: Sequence[UnitGroup], prunable: Shapes) -> list[float]:
    """Return the sparsities (0-1) after 0, 1, 2, ... steps: one more value than there are steps."""
    total = sum(shape.numel() for shape in prunable.values())
    # Without the last layer, a branch of the new last layer is removed too, which only the Surgery counts.
    if any(group.kind == "layer" for group in groups):
        surgeries = (_to_surgery(steps[:count], groups) for count in range(len(steps) + 1))
        return [surgery.count(total, total, prunable).achieved for surgery in surgeries]
    sparsities, removed = [0.0], 0
    for step in steps:
        removed += step.weights
        sparsities.append(removed / total)
    return sparsities


def _to_surgery(steps: Sequence[RemovalStep], groups: Sequence[UnitGroup]) -> Surgery:
    """Return the Surgery that removes the units of all `steps`."""
    removed: dict[int, set[int]] = {}
    for step in steps:
        removed.setdefault(step.group, set()).update(step.units)
    return Surgery(
        cuts=tuple(
            GroupCut(
                kind=groups[index].kind,
                name=groups[index].name,
                units=groups[index].units,
                keep=tuple(unit for unit in range(groups[index].units) if unit not in removed[index]),
                parts=groups[index].parts,
            )
            for index in sorted(removed)
        )
    )
