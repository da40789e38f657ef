"""Compound: a Surgery, and a Mask of the weights that are kept in the smaller model that the Surgery makes.

The sparsity of a compound counts the prunable weights of the original model, so that it can be compared with the
sparsity of a mask or a surgery alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.choose import find_kept_dense
from lxcompress.pruning.granularity import NOfM, read_granularity
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import Shapes, Surgery, recount
from lxcompress.records import Sparsity


@dataclass(frozen=True)
class Compound:
    """A Surgery that makes a smaller model, and a Mask of the weights that are kept in the smaller model."""

    surgery: Surgery
    mask: Mask

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return the masked weights of the smaller model, from the `weights` of the original model."""
        return self.mask.apply(self.surgery.apply(weights))

    def spread(self, shapes: Shapes) -> Mask:
        """Return the Mask of the kept weights in the original model, whose prunable matrices have these `shapes`.

        Raises PruneError if the surgery removes layers, which no mask can do.
        """
        kept = dict(self.surgery.mask(shapes).kept)
        for name, inner in self.mask.kept.items():
            # The surgery keeps whole rows and columns, so its kept weights in order are those of the smaller matrix.
            kept[name] = kept[name].masked_scatter(kept[name].clone(), inner)
        return Mask(kept)


TicketCut = Mask | Surgery | Compound
"""A mask of a model, a smaller model, or a smaller model with a mask of it: what a ticket keeps."""


def count_compound(surgery: Sparsity, mask: Mask) -> Sparsity:
    """Return the Sparsity of a compound, from the Sparsity of its `surgery` and its mask. Raises PruneError.

    The mask must cover the prunable matrices of the smaller model.
    """
    covered = sum(kept.numel() for kept in mask.kept.values())
    if covered != surgery.kept:
        raise PruneError(
            f"mask: covers {covered} weights, but the smaller model has {surgery.kept} prunable ones; use the mask "
            "with the model that it was made for"
        )
    kept = sum(int(matrix.sum()) for matrix in mask.kept.values())
    masked = surgery.kept - kept
    return surgery.model_copy(
        update={
            "kept": kept,
            "achieved": (surgery.prunable - kept) / surgery.prunable,
            "of_live": surgery.of_live + masked / surgery.live,
            "of_all": surgery.of_all + masked / surgery.all,
        }
    )


def recount_cut(model: Model, cut: TicketCut) -> Sparsity:
    """Return the Sparsity of a ticket's cut, computed from the ticket's `model`.

    Raises PruneError if the cut does not fit the model.
    """
    if isinstance(cut, Surgery):
        return recount(model, cut)
    mask = cut.mask if isinstance(cut, Compound) else cut
    mask.check(model.weights)
    if isinstance(cut, Compound):
        return count_compound(recount(model, cut.surgery), mask)
    return mask.count(model.live, model.whole)


def mask_in(cut: TicketCut) -> Mask | None:
    """Return the mask over the weights of the ticket's model; None for a Surgery, which has none."""
    if isinstance(cut, Surgery):
        return None
    return cut.mask if isinstance(cut, Compound) else cut


def surgery_in(cut: TicketCut) -> Surgery | None:
    """Return the surgery that made the ticket's model smaller; None for a Mask, which leaves the model's size."""
    if isinstance(cut, Mask):
        return None
    return cut.surgery if isinstance(cut, Compound) else cut


def within_smaller(selection: Selection, shapes: Mapping[str, torch.Size], prunable: int) -> Selection:
    """Return `selection` with a sparsity that counts the smaller model's weights instead of the original model's.

    `shapes` has the prunable matrices of the smaller model, and `prunable` is the number of prunable weights of the
    original model. Matrices that stay dense keep all their weights, and the others lose so many more. For N:M the
    pattern gives the sparsity. Raises PruneError if the smaller model has too few weights for the sparsity, or if its
    dense matrices alone have too many.
    """
    units = read_granularity(selection.granularity)
    if isinstance(units, NOfM):
        return replace(selection, sparsity=units.sparsity)
    dense = sum(shapes[name].numel() for name in find_kept_dense(shapes, selection))
    left = sum(shape.numel() for shape in shapes.values())
    kept = keep_count(prunable, selection.sparsity)
    if kept > left:
        raise PruneError(
            f"sparsity {selection.sparsity:g}: keeps {kept} of {prunable} original weights, but the first step left "
            f"{left}; give a sparsity above {1 - left / prunable:.4f}"
        )
    if kept <= dense:
        raise PruneError(
            f"sparsity {selection.sparsity:g}: keeps {kept} of {prunable} original weights, but the matrices that "
            f"stay dense have {dense}, so the other matrices would be empty; lower the sparsity"
        )
    return replace(selection, sparsity=1 - (kept - dense) / (left - dense))
