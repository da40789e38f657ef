"""Compare tickets: what each ticket keeps of its model, and how many weights two tickets share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from lxcompress.catalog.families import Modality
    from lxcompress.pruning.overlap import KeptCount, Overlap


@dataclass(frozen=True)
class TicketComparison:
    """What some tickets keep and share. A ticket is named by its folder, or by its path if folders have equal names."""

    kept: Mapping[str, Mapping[str, KeptCount]]
    """Name of a ticket -> {part of the model, or weight matrix: how many of its weights are kept}."""
    overlaps: Mapping[tuple[str, str], Overlap]
    """Names of two tickets -> how many of the weights that either of the two keeps are kept by both (0-1)."""


def compare_tickets(folders: Sequence[Path], *, by_matrix: bool = False) -> TicketComparison:
    """Return what each ticket keeps of each part of its model, and what every two tickets share. Raises LxError.

    A ticket of the hub (hub:OWNER/NAME) is downloaded. With `by_matrix`, the counts are for each weight matrix and not
    for each part.
    """
    from lxcompress.errors import TicketError
    from lxcompress.models.source import find_folder, is_hub_name
    from lxcompress.pruning.overlap import kept_by_matrix, kept_by_part, overlap
    from lxcompress.workflow.checks import check_paths

    found = {folder: find_folder(str(folder)) if is_hub_name(str(folder)) else folder for folder in folders}
    check_paths([*found.values()], what="give a ticket, such as RUN/tickets/NAME", kind=TicketError)
    masks = {_short_name(folder, folders): read_mask(path) for folder, path in found.items()}
    finders = {_short_name(folder, folders): _choose_finder(folder) for folder in folders if not by_matrix}
    kept = {
        name: kept_by_matrix(mask) if by_matrix else kept_by_part(mask, finders[name]) for name, mask in masks.items()
    }
    pairs = itertools.combinations(masks, 2)
    return TicketComparison(kept, {(one, other): overlap(masks[one], masks[other]) for one, other in pairs})


def _choose_finder(folder: Path) -> Callable[[str], Modality]:
    """Return the function that finds the part of the model that a matrix belongs to, by its name.

    torch is imported only for an encoder that is not in the catalog, whose parts follow from its config.
    """
    from lxcompress.catalog.families import family_names, modality
    from lxcompress.filenames import CONFIG_FILE
    from lxcompress.text import parse_json, read_text

    try:
        kind = parse_json(read_text(folder / CONFIG_FILE)).get("model_type")
    except (OSError, ValueError, AttributeError):  # the masks alone are enough for the families of the catalog
        return modality
    if kind is None or kind in family_names():
        return modality
    from lxcompress.models.checkpoints import read_config

    return read_config(str(folder))[1].modality


def read_mask(folder: Path) -> Mapping[str, np.ndarray]:
    """Return {name of a weight matrix: which of its weights the ticket keeps}.

    The matrices are those of the model that the ticket was drawn from. torch is imported only for tickets that are
    smaller models.
    """
    from lxcompress.pruning.bits import read_kept

    kept = read_kept(folder)
    if kept is None:
        from lxcompress.tickets import load_ticket, mask_of

        kept = {name: tensor.numpy() for name, tensor in mask_of(load_ticket(folder)).kept.items()}
    return kept


def _short_name(folder: Path, folders: Sequence[Path]) -> str:
    """Return the name of a ticket's folder, or its path if another ticket's folder has the same name."""
    return folder.name if sum(other.name == folder.name for other in folders) == 1 else str(folder)
