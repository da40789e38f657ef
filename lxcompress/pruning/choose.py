"""Choosing: from scores to a Mask. The one rule is that exactly k stay, the highest, and among equals the earlier.

A granularity says what is counted, a scope among what; both are shared out before any score is read, so that what
cannot be drawn is told before any training.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.granularity import Block, Pattern, find_undivided, read_granularity
from lxcompress.pruning.mask import Mask, Weights, keep_top, keep_top_by_row, keep_top_of_each, keep_top_together
from lxcompress.pruning.scope import (
    SCOPES,
    Curve,
    keep_count,
    share_alike,
    share_by_modality,
    share_by_sensitivity,
)

Modality = Callable[[str], str]
"""the name of a weight -> language, vision, cross or head"""


def choose_mask(
    prunable: Weights,
    *,
    criterion: str,
    sparsity: float,
    seed: int,
    granularity: str = "weight",
    scope: str = "layer",
    rates: Mapping[str, float] | None = None,
    modality: Modality | None = None,
    sensitivities: Mapping[str, Curve] | None = None,
    statistics: CalibrationStatistics | None = None,
    within: Mask | None = None,
    keep_dense: Collection[str] = (),
) -> Mask:
    """The Mask that `criterion` draws; all else is as in `mask_from_scores`. Raises PruneError."""
    scores = score_weights(prunable, criterion=criterion, seed=seed, statistics=statistics)
    return mask_from_scores(
        scores,
        sparsity=sparsity,
        granularity=granularity,
        scope=scope,
        rates=rates,
        modality=modality,
        sensitivities=sensitivities,
        within=within,
        keep_dense=keep_dense,
    )


def mask_from_scores(
    scores: Weights,
    *,
    sparsity: float,
    granularity: str = "weight",
    scope: str = "layer",
    rates: Mapping[str, float] | None = None,
    modality: Modality | None = None,
    sensitivities: Mapping[str, Curve] | None = None,
    within: Mask | None = None,
    keep_dense: Collection[str] = (),
) -> Mask:
    """The Mask of the highest scores (float32, on the CPU, without NaN): exactly the share 1 - `sparsity` of the units.

    Units are weights or blocks. Nothing stays that `within` removed, so that masks drawn one within another are nested.
    The matrices of `find_kept_dense` stay dense, and `sparsity` is that of the others. Raises PruneError if there are
    no others, a matrix would be left empty, or the scope cannot reach the sparsity.
    """
    shapes = {name: score.shape for name, score in scores.items()}
    counts = _plan(shapes, granularity, sparsity, scope, rates, modality, sensitivities, keep_dense)
    chosen, keep_dense = read_granularity(granularity), find_kept_dense(shapes, granularity, keep_dense)
    if within:
        within.check(scores)
    if isinstance(chosen, Pattern):
        kept = {
            name: keep_top_of_each(_open(name, scores, within).reshape(-1, chosen.of), chosen.keep).view(shapes[name])
            for name in shapes
            if name not in keep_dense
        }
    else:
        kept = _keep_units(scores, chosen, scope, counts, sparsity, within, keep_dense)
    whole = {name: torch.ones(shapes[name], dtype=torch.bool) for name in keep_dense}
    mask = Mask({name: whole[name] if name in keep_dense else kept[name] for name in shapes})
    _check_within(mask, within, f"sparsity {sparsity:g} by {granularity}")
    for name, each in mask.kept.items() if scope == "global" else ():  # the other scopes are shared out with one left
        if not bool(each.any()):
            raise _emptied(name, shapes[name], sparsity, "use scope: layer")
    return mask


def find_kept_dense(shapes: Mapping[str, torch.Size], granularity: str, keep_dense: Collection[str] = ()) -> list[str]:
    """Return the names, in order, of the weights that stay dense: those listed, and those that cannot be divided."""
    undivided = find_undivided(shapes, granularity)
    return [name for name in shapes if name in keep_dense or name in undivided]


def say_kept_dense(shapes: Mapping[str, torch.Size], granularity: str) -> str | None:
    """Return in words which matrices the granularity does not divide; None if it divides all."""
    undivided = find_undivided(shapes, granularity)
    if not undivided:
        return None
    first, more = undivided[0], f" and {len(undivided) - 1} more" if len(undivided) > 1 else ""
    shape = " x ".join(map(str, shapes[first]))
    return f"{len(undivided)} of {len(shapes)} matrices, which {granularity} does not divide: {first} ({shape}){more}"


def check_granularity(
    shapes: Mapping[str, torch.Size],
    *,
    granularity: str,
    sparsity: float,
    scope: str,
    rates: Mapping[str, float] | None = None,
    modality: Modality | None = None,
    sensitivities: Mapping[str, Curve] | None = None,
    keep_dense: Collection[str] = (),
) -> None:
    """Raises PruneError for a mask that cannot be drawn of weights of these shapes, as far as no score decides it.

    Before sensitivities are measured, scope sensitivity is not looked into.
    """
    if scope == "sensitivity" and sensitivities is None:
        scope = "layer"
    _plan(shapes, granularity, sparsity, scope, rates, modality, sensitivities, keep_dense)


def _plan(
    shapes: Mapping[str, torch.Size],
    granularity: str,
    sparsity: float,
    scope: str,
    rates: Mapping[str, float] | None,
    modality: Modality | None,
    sensitivities: Mapping[str, Curve] | None,
    keep_dense: Collection[str],
) -> dict[str, int]:
    """name -> units kept, of the weights that are pruned; empty where scores decide (global) or the pattern does.

    Raises PruneError.
    """
    chosen = read_granularity(granularity)
    _check_settings(shapes, chosen, granularity, sparsity, scope, rates, modality, sensitivities, keep_dense)
    kept = find_kept_dense(shapes, granularity, keep_dense)
    if len(kept) == len(shapes):
        raise _nothing_left(shapes, granularity)
    cut = {name: shape for name, shape in shapes.items() if name not in kept}
    for name, shape in cut.items():
        if scope == "row" and len(shape) != 2:
            raise PruneError(f"{name}: is no matrix, so scope row finds no rows in it; use scope layer")
    if isinstance(chosen, Pattern):
        return {}
    units = {name: shape.numel() // chosen.size for name, shape in cut.items()}
    if scope == "global":
        return {}
    if scope == "modality":
        assert rates is not None
        assert modality is not None
        return share_by_modality(units, sparsity, rates=rates, modality=modality)
    if scope == "sensitivity":
        return share_by_sensitivity(units, sparsity, sensitivities or {})
    counts = share_alike(units, sparsity)
    for name, count in counts.items():
        if count == 0:
            raise _emptied(name, shapes[name], sparsity, "list it in keep_dense to keep it whole")
    return counts


def _check_settings(
    shapes: Mapping[str, torch.Size],
    chosen: Block | Pattern,
    granularity: str,
    sparsity: float,
    scope: str,
    rates: Mapping[str, float] | None,
    modality: Modality | None,
    sensitivities: Mapping[str, Curve] | None,
    keep_dense: Collection[str],
) -> None:
    """Raises PruneError for settings that cannot go together, whatever the weights."""
    if scope not in SCOPES:
        raise PruneError(f"scope {scope}: is unknown; this lxcompress knows {', '.join(SCOPES)}")
    if not 0 <= sparsity < 1:
        raise PruneError(f"sparsity {sparsity:g}: is a share of the weights from 0 to below 1, such as 0.5 for 50 %")
    if isinstance(chosen, Pattern) and abs(sparsity - chosen.sparsity) > 1e-9:
        raise PruneError(
            f"sparsity {sparsity:g}: granularity {granularity} removes {chosen.sparsity:g} of the weights and no other "
            f"share; give sparsity {chosen.sparsity:g}, or another granularity"
        )
    if isinstance(chosen, Pattern) and scope not in ("layer", "row"):
        raise PruneError(f"scope {scope}: has no effect on granularity {granularity}, whose groups all keep the same")
    for what, value, its_scope in (("rates", rates, "modality"), ("sensitivities", sensitivities, "sensitivity")):
        if value is not None and scope != its_scope:
            raise PruneError(f"{what}: have no effect with scope {scope}; leave them out, or use scope {its_scope}")
    if scope == "modality" and (rates is None or modality is None):
        raise PruneError("scope modality: needs a rate for each of language, vision, cross and head; give rates")
    unknown = sorted(set(keep_dense) - set(shapes))
    if unknown:
        raise PruneError(f"keep_dense: the model has no prunable weight {unknown[0]}; name one that it has")


def _keep_units(
    scores: Weights,
    block: Block,
    scope: str,
    counts: Mapping[str, int],
    sparsity: float,
    within: Mask | None,
    keep_dense: Collection[str],
) -> dict[str, Tensor]:
    """name -> bool, the shape of the weight: blocks chosen by their scores, written out as weights."""
    names = [name for name in scores if name not in keep_dense]
    if scope == "global":
        units = {name: block.score(_open(name, scores, within)) for name in names}
        total = sum(score.numel() for score in units.values())
        kept = keep_top_together(units, keep_count(total, sparsity))
        return {name: block.spread(each) for name, each in kept.items()}
    keep = keep_top_by_row if scope == "row" else keep_top
    return {name: block.spread(keep(block.score(_open(name, scores, within)), counts[name])) for name in names}


def _open(name: str, scores: Weights, within: Mask | None) -> Tensor:
    """The scores of a weight, where `within` removed it below all others."""
    if within is None or name not in within.kept:
        return scores[name]
    return scores[name].masked_fill(~within.kept[name], float("-inf"))


def _check_within(mask: Mask, within: Mask | None, what: str) -> None:
    """Raises PruneError if the mask keeps what `within` removed."""
    for name, open_ in within.kept.items() if within else ():
        if bool((mask.kept[name] & ~open_).any()):
            raise PruneError(
                f"{name}: {what} keeps more than the earlier mask left; raise the sparsity, or draw both masks with "
                "the same granularity and scope"
            )


def _nothing_left(shapes: Mapping[str, torch.Size], granularity: str) -> PruneError:
    said = say_kept_dense(shapes, granularity)
    if said is None:
        return PruneError(f"keep_dense: lists all {len(shapes)} matrices, so nothing is left to prune; list fewer")
    return PruneError(f"granularity {granularity}: nothing is left to prune; dense stay {said}; use granularity weight")


def _emptied(name: str, shape: torch.Size, sparsity: float, remedy: str) -> PruneError:
    return PruneError(
        f"{name}: sparsity {sparsity:g} would remove all of its {shape.numel()} weights; "
        f"lower the sparsity, or {remedy}"
    )
