"""Compare tickets: what each keeps of the model, and how many of its weights two of them share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from lxcompress.pruning.overlap import KeptCount, Overlap


@dataclass(frozen=True)
class TicketComparison:
    """What tickets keep, by their shortest distinct names."""

    kept: Mapping[str, Mapping[str, KeptCount]]
    """Name of a ticket -> part of the model, or weight matrix -> what is kept of it."""
    overlaps: Mapping[tuple[str, str], Overlap]
    """Names of two tickets -> the share of weights that both keep."""


def compare_tickets(folders: Sequence[Path], *, by_matrix: bool = False) -> TicketComparison:
    """Return what each ticket keeps of each part of its model, or of each weight matrix. Raises LxError."""
    from lxcompress.catalog.families import modality
    from lxcompress.errors import TicketError
    from lxcompress.pruning.overlap import kept_by_matrix, kept_by_part, overlap
    from lxcompress.workflow.checks import check_paths

    check_paths(folders, what="give a ticket, such as RUN/tickets/NAME", kind=TicketError)
    masks = {_short_name(folder, folders): read_mask(folder) for folder in folders}
    kept = {name: kept_by_matrix(mask) if by_matrix else kept_by_part(mask, modality) for name, mask in masks.items()}
    pairs = itertools.combinations(masks, 2)
    return TicketComparison(kept, {(one, other): overlap(masks[one], masks[other]) for one, other in pairs})


def read_mask(folder: Path) -> Mapping[str, np.ndarray]:
    """Return which weights a ticket keeps of the model that it was drawn from.

    Imports torch only for tickets that are smaller models.
    """
    from lxcompress.pruning.bits import read_kept

    kept = read_kept(folder)
    if kept is None:
        from lxcompress.tickets import load_ticket, mask_of

        kept = {name: tensor.numpy() for name, tensor in mask_of(load_ticket(folder)).kept.items()}
    return kept


def _short_name(folder: Path, folders: Sequence[Path]) -> str:
    """Return the name of the folder, or its path if another ticket has the same name."""
    return folder.name if sum(other.name == folder.name for other in folders) == 1 else str(folder)
