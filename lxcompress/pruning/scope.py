"""Scope: how a sparsity is shared out among the weights of a model, in units (single weights, or blocks of them).

- layer: every weight matrix alike; row: as layer, and every output row of it alike (Sun et al. 2023).
- global: wherever the scores are lowest; nothing is shared out before.
- modality: language, vision, cross and head each at a rate of its own.
- sensitivity: each matrix up to the same measured rise of the loss (Han et al. 2015, section 3).

Whatever the scope, the total is exact; only the row and layer scopes round each matrix by itself.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping

from lxcompress.errors import PruneError

SCOPES = ("layer", "row", "global", "modality", "sensitivity")
Curve = Mapping[float, float]
"""sparsity (0-1) -> the rise of the loss when one matrix alone is pruned so"""
HALVINGS = 100
"""More than a float has bits: what is solved for is found as exactly as it can be written."""


def keep_count(units: int, sparsity: float) -> int:
    """How many of `units` stay at `sparsity`."""
    return units - round(units * sparsity)


def share_alike(units: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """name -> units kept, each at `sparsity`."""
    return {name: keep_count(count, sparsity) for name, count in units.items()}


def share_by_modality(
    units: Mapping[str, int], sparsity: float, *, rates: Mapping[str, float], modality: Callable[[str], str]
) -> dict[str, int]:
    """name -> units kept: modality m loses the share c x rates[m], and c is what makes the total exact.

    A share never empties a matrix: one unit of each stays, and the others go on. Raises PruneError.
    """
    rate_of = {}
    for name in units:
        part = modality(name)
        if part not in rates:
            raise PruneError(
                f"{name}: is of the modality {part}, which has no rate; give relative_rates.{part}, 0 to protect it"
            )
        rate_of[name] = rates[part]
        if not (math.isfinite(rate_of[name]) and rate_of[name] >= 0):
            raise PruneError(
                f"relative_rates.{part}: is {rate_of[name]:g}; a rate is 0 (to protect) or a positive number"
            )

    def removed(factor: float) -> dict[str, float]:
        return {name: min(units[name] - 1, factor * rate_of[name] * units[name]) for name in units}

    highest = max((1 / rate for rate in rate_of.values() if rate > 0), default=0.0)
    remedy = "lower the sparsity, or give parts of the rate 0 a higher one"
    return _keep_all_but(units, sparsity, removed, 0.0, highest, remedy)


def share_by_sensitivity(
    units: Mapping[str, int], sparsity: float, sensitivities: Mapping[str, Curve]
) -> dict[str, int]:
    """name -> units kept: each matrix has the largest sparsity whose rise of the loss is at most t, the same for all.

    Between measured sparsities the rise is taken as linear, and never as falling; beyond the last, as too high. t is
    what makes the total exact. Raises PruneError.
    """
    curves = {name: _climb(name, sensitivities) for name in units}

    def removed(most: float) -> dict[str, float]:
        return {name: min(units[name] - 1, _allowed(*curves[name], most) * units[name]) for name in units}

    highest = max((rises[-1] for _, rises in curves.values()), default=0.0)
    remedy = "lower the sparsity, or measure the sensitivities at higher ones"
    return _keep_all_but(units, sparsity, removed, -1.0, highest, remedy)


def _climb(name: str, sensitivities: Mapping[str, Curve]) -> tuple[list[float], list[float]]:
    """The measured sparsities of a matrix, from 0 upwards, and the highest rise of the loss up to each."""
    if not sensitivities.get(name):
        raise PruneError(f"{name}: scope sensitivity needs its measured sensitivity, and there is none; measure it")
    sparsities, rises = [0.0], [0.0]
    for sparsity, rise in sorted(sensitivities[name].items()):
        if math.isnan(rise):
            raise PruneError(f"{name}: the rise of the loss at sparsity {sparsity:g} is not a number; measure it again")
        sparsities.append(sparsity)
        rises.append(max(rise, rises[-1]))
    return sparsities, rises


def _allowed(sparsities: list[float], rises: list[float], most: float) -> float:
    """The largest sparsity whose rise is at most `most`."""
    last = bisect.bisect_right(rises, most) - 1
    if last < 0:
        return 0.0
    if last + 1 == len(rises):
        return sparsities[last]
    share = (most - rises[last]) / (rises[last + 1] - rises[last])
    return sparsities[last] + share * (sparsities[last + 1] - sparsities[last])


def _keep_all_but(
    units: Mapping[str, int],
    sparsity: float,
    removed: Callable[[float], dict[str, float]],
    low: float,
    high: float,
    remedy: str,
) -> dict[str, int]:
    """name -> units kept, where `removed(x)` is solved for the exact total; it grows with x from `low` to `high`.

    Where it jumps, all go the same way between the two ends of the jump.
    """
    total = sum(units.values())
    wanted = total - keep_count(total, sparsity)
    most = sum(removed(high).values())
    if most < wanted - 0.5 - 1e-6:  # what is solved for is rounded to whole units; the rest is of floats
        raise PruneError(
            f"sparsity {sparsity:g}: is to remove {wanted} of {total}, but at most {most:.0f} can go so; {remedy}"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(removed(middle).values()) >= wanted else (middle, high)
    few, many = removed(low), removed(high)
    between = sum(many.values()) - sum(few.values())
    share = min(1.0, max(0.0, (wanted - sum(few.values())) / between)) if between > 0 else 0.0
    exact = {name: few[name] + share * (many[name] - few[name]) for name in units}
    gone = _round_to(wanted, exact)
    return {name: count - gone[name] for name, count in units.items()}


def _round_to(total: int, exact: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total`, where `exact` does but for rounding: the largest remainders are rounded up."""
    whole = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: total - sum(whole.values())]:
        whole[name] += 1
    assert sum(whole.values()) == total
    return whole
