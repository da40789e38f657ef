"""Wish: what `prune` is asked for, checked before torch is imported and before the model is read."""

from __future__ import annotations

from pathlib import Path

from lxcompress.catalog.criteria import criterion_names, find_criterion, is_criterion
from lxcompress.errors import PruneError
from lxcompress.recipe import MASKED, STRUCTURED, is_granularity
from lxcompress.settings import did_you_mean

SCOPES = ("layer", "row", "global")
"""The others need rates, or measurements that a study makes."""


def check_wish(
    *,
    criterion: str,
    sparsity: float | None,
    granularity: str,
    scope: str,
    like: Path | None,
    has_calibration: bool,
    is_retrained: bool,
    is_wish: bool,
) -> None:
    """Raise PruneError for what cannot be wished of any model; `is_wish` says whether anything says what to keep."""
    if like is not None:
        if sparsity is not None or has_calibration or criterion != "low-magnitude" or is_wish:
            raise PruneError(f"--like {like}: its mask is drawn already; give --out and --seed beside it, and no more")
        return
    if not is_criterion(criterion):
        raise PruneError(
            f"--criterion {criterion}: is unknown; {did_you_mean(criterion, criterion_names())} "
            f"(this lxcompress knows {', '.join(criterion_names())})"
        )
    spec = find_criterion(criterion)
    if spec.needs_training:
        raise PruneError(f"--criterion {criterion}: needs training history; use lxcompress study")
    if not spec.reads_weights_only and not has_calibration and not is_retrained:
        raise PruneError(
            f"--criterion {criterion}: needs training questions to look at, and has none; give --calibrate RECIPE"
        )
    if spec.reads_weights_only and has_calibration:
        raise PruneError(f"--calibrate: has no effect on {criterion}, which looks at the weights alone; leave it out")
    if not is_granularity(granularity):
        known = (*MASKED, "2:4", *STRUCTURED)
        raise PruneError(f"--granularity {granularity}: is unknown; {did_you_mean(granularity, known)}")
    if scope not in SCOPES:
        raise PruneError(f"--scope {scope}: is unknown without a study, which knows more; give {', '.join(SCOPES)}")
    share = "a share of the weights between 0 and 1, such as 0.5 for 50 %"
    if sparsity is None:
        raise PruneError(f"--sparsity: is missing; give {share}")
    if not 0 < sparsity < 1:
        raise PruneError(f"--sparsity {sparsity:g}: expected {share}")
