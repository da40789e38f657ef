"""Choose a Mask from scores: keep exactly k units, those with the highest scores; of equal scores, the earlier units.

The granularity says what a unit is, and the scope says which units are compared with each other. The number of units to
keep is computed from shapes alone, so that an impossible Selection is reported before anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.granularity import Block, NOfM, find_undivided, read_granularity
from lxcompress.pruning.mask import Mask, Weights, keep_top, keep_top_by_row, keep_top_of_each, keep_top_together
from lxcompress.pruning.scope import (
    FLOORED,
    SCOPES,
    Curve,
    keep_count,
    least_kept,
    share_alike,
    share_by_modality,
    share_by_sensitivity,
)
from lxcompress.pruning.selection import Selection

Modality = Callable[[str], str]
"""Name of a weight matrix -> the part of the model that the matrix belongs to: language, vision, cross or head."""


def choose_mask(
    prunable: Weights,
    selection: Selection,
    *,
    criterion: str,
    seed: int,
    statistics: CalibrationStatistics | None = None,
) -> Mask:
    """Score the weights by `criterion`, and return the Mask that keeps the highest scores. Raises PruneError.

    The scopes modality and sensitivity need more than the weights: use `mask_from_scores` for them.
    """
    return mask_from_scores(score_weights(prunable, criterion=criterion, seed=seed, statistics=statistics), selection)


def mask_from_scores(
    scores: Weights,
    selection: Selection,
    *,
    within: Mask | None = None,
    modality: Modality | None = None,
    sensitivities: Mapping[str, Curve] | None = None,
) -> Mask:
    """Return the Mask that keeps the units with the highest scores: the fraction 1 - sparsity of all units.

    `scores` are float32, on the CPU, without NaN. Weights that the mask `within` removed are removed here too, so that
    masks of increasing sparsity are nested. Matrices that `find_kept_dense` names stay dense, and the sparsity counts
    the other matrices only. Scope modality needs `modality`, and scope sensitivity needs `sensitivities`. Raises
    PruneError if no matrix can be pruned, if a matrix would lose all its weights, or if the scope cannot reach the
    sparsity.
    """
    shapes = {name: score.shape for name, score in scores.items()}
    counts = _count_kept(shapes, selection, modality, sensitivities)
    dense = find_kept_dense(shapes, selection)
    if within:
        within.check(scores)
    kept = _keep_units(scores, [name for name in shapes if name not in dense], selection, counts, within)
    mask = Mask({name: kept[name] if name in kept else torch.ones(shapes[name], dtype=torch.bool) for name in shapes})
    _check_within(mask, within, f"sparsity {selection.sparsity:g} by {selection.granularity}")
    return mask


def find_kept_dense(shapes: Mapping[str, torch.Size], selection: Selection) -> list[str]:
    """Return the names of the matrices that stay dense, in the order of `shapes`.

    They are the matrices in `keep_dense`, and the matrices whose size is not a multiple of the granularity's unit.
    """
    undivided = find_undivided(shapes, selection.granularity)
    return [name for name in shapes if name in selection.keep_dense or name in undivided]


def describe_undivided(shapes: Mapping[str, torch.Size], granularity: str) -> str | None:
    """Return in words which matrices have a size that is not a multiple of the granularity's unit; None if none has."""
    undivided = find_undivided(shapes, granularity)
    if not undivided:
        return None
    first, more = undivided[0], f" and {len(undivided) - 1} more" if len(undivided) > 1 else ""
    shape = " x ".join(map(str, shapes[first]))
    return f"{len(undivided)} of {len(shapes)} matrices, which {granularity} does not divide: {first} ({shape}){more}"


def check_selection(
    shapes: Mapping[str, torch.Size],
    selection: Selection,
    *,
    modality: Modality | None = None,
    sensitivities: Mapping[str, Curve] | None = None,
) -> None:
    """Raise PruneError if matrices of these shapes cannot be pruned by `selection`, whatever their scores are.

    Before `sensitivities` are measured (None), scope sensitivity is checked as scope layer.
    """
    scope = "layer" if selection.scope == "sensitivity" and sensitivities is None else selection.scope
    _count_kept(shapes, replace(selection, scope=scope), modality, sensitivities)


def _count_kept(
    shapes: Mapping[str, torch.Size],
    selection: Selection,
    modality: Modality | None,
    sensitivities: Mapping[str, Curve] | None,
) -> dict[str, int]:
    """Return {name: number of units to keep} of the matrices to prune. Raises PruneError.

    The result is empty for scope global, where the scores decide, and for N:M, where every M weights keep N.
    """
    units = read_granularity(selection.granularity)
    _check_settings(selection, units)
    _check_names(shapes, selection)
    _check_scope_inputs(selection, modality, sensitivities)
    dense = find_kept_dense(shapes, selection)
    if len(dense) == len(shapes):
        raise _nothing_left(shapes, selection.granularity)
    pruned = {name: shape for name, shape in shapes.items() if name not in dense}
    for name, shape in pruned.items():
        if selection.scope == "row" and len(shape) != 2:
            raise PruneError(f"{name}: is not a matrix, so scope row does not fit it; use scope layer")
    if isinstance(units, NOfM):
        return {}
    totals = {name: shape.numel() // units.size for name, shape in pruned.items()}
    if selection.scope == "global":
        _check_least_kept(totals, selection)
        return {}
    if selection.scope == "modality":
        assert selection.relative_rates is not None
        assert modality is not None
        least = {name: least_kept(count, selection.least_kept) for name, count in totals.items()}
        return share_by_modality(
            totals, selection.sparsity, rates=selection.relative_rates, modality=modality, least=least
        )
    if selection.scope == "sensitivity":
        return share_by_sensitivity(totals, selection.sparsity, sensitivities or {})
    counts = share_alike(totals, selection.sparsity)
    for name, count in counts.items():
        if count == 0:
            raise _emptied(name, shapes[name], selection.sparsity, "list it in keep_dense to keep it whole")
    return counts


def _check_least_kept(totals: Mapping[str, int], selection: Selection) -> None:
    """Raise PruneError if the least number of units of all matrices is more than the sparsity keeps together."""
    least = sum(least_kept(count, selection.least_kept) for count in totals.values())
    kept = keep_count(sum(totals.values()), selection.sparsity)
    if kept < least:
        raise PruneError(
            f"sparsity {selection.sparsity:g}: keeps {kept} of {sum(totals.values())} units, but the {len(totals)} "
            f"matrices keep at least {least} (least_kept {selection.least_kept:g}, and one unit each); lower the "
            "sparsity or least_kept"
        )


def _check_settings(selection: Selection, units: Block | NOfM) -> None:
    """Raise PruneError for a sparsity, a scope and a granularity that contradict each other for every model."""
    sparsity, scope, granularity = selection.sparsity, selection.scope, selection.granularity
    if scope not in SCOPES:
        raise PruneError(f"scope {scope}: is unknown; give one of {', '.join(SCOPES)}")
    if not 0 <= sparsity < 1:
        raise PruneError(f"sparsity {sparsity:g}: is a share of the weights from 0 to below 1, such as 0.5 for 50 %")
    if not 0 <= selection.least_kept < 1:
        raise PruneError(f"least_kept {selection.least_kept:g}: is a share from 0 to below 1, such as 0.02")
    if selection.least_kept and scope not in FLOORED:
        raise PruneError(f"least_kept: has no effect with scope {scope}; leave it out, or use {' or '.join(FLOORED)}")
    if isinstance(units, NOfM) and abs(sparsity - units.sparsity) > 1e-9:
        raise PruneError(
            f"sparsity {sparsity:g}: granularity {granularity} always removes {units.sparsity:g} of the weights; give "
            f"sparsity {units.sparsity:g}, or another granularity"
        )
    if isinstance(units, NOfM) and scope not in ("layer", "row"):
        raise PruneError(
            f"scope {scope}: has no effect with granularity {granularity}, which keeps as many weights of every group; "
            "give scope layer"
        )


def _check_names(shapes: Mapping[str, torch.Size], selection: Selection) -> None:
    """Raise PruneError if `keep_dense` names a matrix that the model does not have."""
    unknown = sorted(set(selection.keep_dense) - set(shapes))
    if unknown:
        raise PruneError(f"keep_dense: the model has no prunable weight {unknown[0]}; name one that it has")


def _check_scope_inputs(
    selection: Selection, modality: Modality | None, sensitivities: Mapping[str, Curve] | None
) -> None:
    """Raise PruneError if the scope lacks rates or sensitivities that it needs, or is given some without effect."""
    given = (("relative_rates", selection.relative_rates, "modality"), ("sensitivities", sensitivities, "sensitivity"))
    for what, value, its_scope in given:
        if value is not None and selection.scope != its_scope:
            raise PruneError(
                f"{what}: have no effect with scope {selection.scope}; leave them out, or use scope {its_scope}"
            )
    if selection.scope == "modality" and (selection.relative_rates is None or modality is None):
        raise PruneError(
            "scope modality: needs a rate for each of language, vision, cross and head; give relative_rates"
        )


def _keep_units(
    scores: Weights, names: Sequence[str], selection: Selection, counts: Mapping[str, int], within: Mask | None
) -> dict[str, Tensor]:
    """Return {name: bool of the matrix's shape, True = kept} for the matrices `names`.

    `counts` has the number of units to keep of each matrix. Where the scope allows it, one matrix is handled at a time,
    so that little memory is needed.
    """
    units = read_granularity(selection.granularity)
    if isinstance(units, NOfM):
        return {
            name: keep_top_of_each(_mask_scores(name, scores, within).reshape(-1, units.of), units.keep).view(
                scores[name].shape
            )
            for name in names
        }
    if selection.scope == "global":
        unit_scores = {name: units.score(_mask_scores(name, scores, within)) for name in names}
        kept = _keep_together(unit_scores, selection)
        return {name: units.spread(matrix) for name, matrix in kept.items()}
    keep = keep_top_by_row if selection.scope == "row" else keep_top
    return {name: units.spread(keep(units.score(_mask_scores(name, scores, within)), counts[name])) for name in names}


def _keep_together(unit_scores: dict[str, Tensor], selection: Selection) -> dict[str, Tensor]:
    """Return {name: bool, True = kept} of the units for scope global: the best of all matrices together.

    A matrix that would keep too few keeps its `least_kept` best ones, unless an earlier mask removed them (-inf), and
    the other matrices lose more. That may leave another matrix with too few, so it is repeated.
    """
    keep = keep_count(sum(score.numel() for score in unit_scores.values()), selection.sparsity)
    least = {name: least_kept(score.numel(), selection.least_kept) for name, score in unit_scores.items()}
    unit_scores = dict(unit_scores)
    while True:
        kept = keep_top_together(unit_scores, keep)
        short = [name for name, count in least.items() if int(kept[name].sum()) < count]
        for name in short:
            score = unit_scores[name]
            best = keep_top(score, least.pop(name)) & (score > float("-inf"))
            unit_scores[name] = score.masked_fill(best, float("inf"))
        if not short:
            return kept


def _mask_scores(name: str, scores: Weights, within: Mask | None) -> Tensor:
    """Return the scores of a matrix, with -inf for each weight that `within` removed."""
    if within is None or name not in within.kept:
        return scores[name]
    return scores[name].masked_fill(~within.kept[name], float("-inf"))


def _check_within(mask: Mask, within: Mask | None, what: str) -> None:
    """Raise PruneError if `mask` keeps a weight that the earlier mask `within` removed; `what` names the settings."""
    for name, kept_before in within.kept.items() if within else ():
        if bool((mask.kept[name] & ~kept_before).any()):
            raise PruneError(
                f"{name}: {what} would keep weights that the earlier mask removed; raise the sparsity, or draw both "
                "masks with the same granularity and scope"
            )


def _nothing_left(shapes: Mapping[str, torch.Size], granularity: str) -> PruneError:
    """Return the error for a model whose matrices all stay dense."""
    undivided = describe_undivided(shapes, granularity)
    if undivided is None:
        return PruneError(f"keep_dense: lists all {len(shapes)} matrices, so nothing is left to prune; list fewer")
    return PruneError(
        f"granularity {granularity}: nothing is left to prune; these stay dense: {undivided}; use granularity weight"
    )


def _emptied(name: str, shape: torch.Size, sparsity: float, remedy: str) -> PruneError:
    """Return the error for a matrix that would lose all its weights."""
    return PruneError(
        f"{name}: sparsity {sparsity:g} would remove all of its {shape.numel()} weights; "
        f"lower the sparsity, or {remedy}"
    )
