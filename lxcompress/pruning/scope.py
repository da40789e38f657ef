"""Scope: how a sparsity is shared among the matrices of a model. Counts are in units: single weights, or blocks.

- layer: every matrix has the same sparsity.
- row: every output row of every matrix has the same sparsity (Sun et al. 2023).
- global: the units with the lowest scores of the whole model are removed, so the scores decide each matrix's sparsity.
- modality: language, vision, cross and head are pruned at different relative rates.
- sensitivity: each matrix is pruned up to the same measured rise of the loss (Han et al. 2015, section 3).

Scopes global and modality keep at least one unit, and at least the fraction `least_kept` of the units, of each matrix.
The total number of removed units is exact for global, modality and sensitivity. Scopes layer and row round the number
of each matrix separately.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping

from lxcompress.errors import PruneError

SCOPES = ("layer", "row", "global", "modality", "sensitivity")
FLOORED = ("global", "modality")
"""The scopes that could remove a whole matrix: each matrix keeps at least a fraction of its units."""
Curve = Mapping[float, float]
"""{sparsity (0-1): the rise of the loss when only one matrix is pruned, to this sparsity}"""
HALVINGS = 100
"""The steps of a bisection: more than a float has bits, so the result is exact to the last bit."""


def keep_count(units: int, sparsity: float) -> int:
    """Return how many of `units` units are kept at `sparsity` (0-1)."""
    return units - round(units * sparsity)


def least_kept(units: int, fraction: float) -> int:
    """Return how many of `units` units are kept at least: `fraction` (0-1) of them, rounded up, and at least one."""
    return max(1, math.ceil(round(units * fraction, 6)))


def share_alike(units: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return {name: number of units to keep} if each matrix has the same `sparsity`; `units` is {name: all units}."""
    return {name: keep_count(count, sparsity) for name, count in units.items()}


def share_by_modality(
    units: Mapping[str, int],
    sparsity: float,
    *,
    rates: Mapping[str, float],
    modality: Callable[[str], str],
    least: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return {name: number of units to keep} for scope modality. Raises PruneError.

    `least` has the fewest units that each matrix keeps; by default one.

    The sparsity of a matrix in part m is c x rates[m], with one c for all matrices that makes the total exact. A matrix
    that would keep fewer than `least` keeps these, and the other matrices lose more.
    """
    fewest = least or dict.fromkeys(units, 1)
    rate_of = {}
    for name in units:
        part = modality(name)
        if part not in rates:
            raise PruneError(
                f"{name}: belongs to modality {part}, which has no rate; give relative_rates.{part} (0 removes nothing)"
            )
        rate_of[name] = rates[part]
        if not (math.isfinite(rate_of[name]) and rate_of[name] >= 0):
            raise PruneError(f"relative_rates.{part}: is {rate_of[name]:g}, expected 0 (nothing is removed) or more")

    def removed(factor: float) -> dict[str, float]:
        return {name: min(units[name] - fewest[name], factor * rate_of[name] * units[name]) for name in units}

    highest = max((1 / rate for rate in rate_of.values() if rate > 0), default=0.0)
    remedy = "lower the sparsity, or raise the rates that are 0"
    return _solve_counts(units, sparsity, removed, 0.0, highest, remedy)


def share_by_sensitivity(
    units: Mapping[str, int], sparsity: float, sensitivities: Mapping[str, Curve]
) -> dict[str, int]:
    """Return {name: number of units to keep} for scope sensitivity. Raises PruneError.

    Each matrix has the largest sparsity at which the loss rises by at most t, with one t for all matrices that makes
    the total exact. Between measured sparsities the rise is interpolated linearly. Where a measured rise is lower than
    an earlier one, the earlier one is used. No matrix is pruned beyond its last measured sparsity.
    """
    curves = {name: _read_curve(name, sensitivities) for name in units}

    def removed(most: float) -> dict[str, float]:
        return {name: min(units[name] - 1, _allowed(*curves[name], most) * units[name]) for name in units}

    highest = max((rises[-1] for _, rises in curves.values()), default=0.0)
    remedy = "lower the sparsity, or measure sensitivities at higher sparsities"
    return _solve_counts(units, sparsity, removed, -1.0, highest, remedy)


def _read_curve(name: str, sensitivities: Mapping[str, Curve]) -> tuple[list[float], list[float]]:
    """Return the measured sparsities of a matrix, in order from 0, and the rise of the loss at each sparsity.

    A rise that is lower than an earlier one is replaced by the earlier one.
    """
    if not sensitivities.get(name):
        raise PruneError(f"{name}: its sensitivity was not measured, and scope sensitivity needs it; measure it")
    sparsities, rises = [0.0], [0.0]
    for sparsity, rise in sorted(sensitivities[name].items()):
        if math.isnan(rise):
            raise PruneError(f"{name}: the rise of the loss at sparsity {sparsity:g} is not a number; measure it again")
        sparsities.append(sparsity)
        rises.append(max(rise, rises[-1]))
    return sparsities, rises


def _allowed(sparsities: list[float], rises: list[float], most: float) -> float:
    """Return the largest sparsity at which the loss rises by at most `most`, by linear interpolation."""
    last = bisect.bisect_right(rises, most) - 1
    if last < 0:
        return 0.0
    if last + 1 == len(rises):
        return sparsities[last]
    share = (most - rises[last]) / (rises[last + 1] - rises[last])
    return sparsities[last] + share * (sparsities[last + 1] - sparsities[last])


def _solve_counts(
    units: Mapping[str, int],
    sparsity: float,
    removed: Callable[[float], dict[str, float]],
    low: float,
    high: float,
    remedy: str,
) -> dict[str, int]:
    """Return {name: number of units to keep} for the x between `low` and `high` that makes the total exact.

    `removed(x)` returns {name: units to remove}, and grows with x. If no x gives the wanted total, because `removed`
    jumps over it, each matrix gets the same fraction of its jump. Raises PruneError, which ends in `remedy`, if even
    `removed(high)` is too little.
    """
    total = sum(units.values())
    wanted = total - keep_count(total, sparsity)
    most = sum(removed(high).values())
    if most < wanted - 0.5 - 1e-6:  # 0.5 for the rounding to whole units, 1e-6 for the rounding of floats
        raise PruneError(
            f"sparsity {sparsity:g}: removes {wanted} of {total} units, but these settings allow {most:.0f}; {remedy}"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(removed(middle).values()) >= wanted else (middle, high)
    few, many = removed(low), removed(high)
    between = sum(many.values()) - sum(few.values())
    share = min(1.0, max(0.0, (wanted - sum(few.values())) / between)) if between > 0 else 0.0
    exact = {name: few[name] + share * (many[name] - few[name]) for name in units}
    rounded = _round_to(wanted, exact)
    return {name: count - rounded[name] for name, count in units.items()}


def _round_to(total: int, exact: Mapping[str, float]) -> dict[str, int]:
    """Return the values of `exact` as whole numbers with the sum `total`.

    All values are rounded down, then those with the largest remainders are increased by 1.
    """
    whole = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: total - sum(whole.values())]:
        whole[name] += 1
    assert sum(whole.values()) == total
    return whole
