"""The mask of a ticket as bool arrays, read and checked without torch and without the model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lxcompress.bitmask import read_masks
from lxcompress.checksums import check_files, ticket_origin
from lxcompress.errors import TicketError
from lxcompress.filenames import BITMASK_FILE, MASK_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.records import Provenance, check_seal, read_unsealed


def read_kept(folder: Path) -> dict[str, np.ndarray] | None:
    """Return {weight matrix: bool array, True = kept} of a ticket; None for one that is a smaller model.

    Its files are those that its record names, and its weights are zero where the mask says so. Raises TicketError.
    """
    if not (folder / TICKET_FILE).is_file():
        raise TicketError(
            f"{folder}: is not a ticket (it has no {TICKET_FILE}); give a folder made by `lxcompress study` "
            "(RUN/tickets/...) or by `lxcompress prune`"
        )
    provenance = read_unsealed(folder / TICKET_FILE, Provenance, TicketError)
    check_files(folder, ticket_origin(folder, provenance))
    if provenance.surgery_sha256:
        return None
    is_packed = (folder / BITMASK_FILE).is_file() and not (folder / WEIGHTS_FILE).is_file()
    kept = read_masks(folder / BITMASK_FILE) if is_packed else _read_mask(folder)
    count = sum(int(each.sum()) for each in kept.values())
    if (provenance.sparsity.kept, provenance.sparsity.prunable) != (count, sum(each.size for each in kept.values())):
        raise TicketError(
            f"{folder / TICKET_FILE}: its sparsity is not that of its mask; the ticket was changed, draw it again"
        )
    check_seal(folder / TICKET_FILE, TicketError, remedy="draw the ticket again")
    return kept


def _read_mask(folder: Path) -> dict[str, np.ndarray]:
    """Return the mask in the folder, if it holds in the weights there."""
    path = folder / MASK_FILE
    try:
        with safe_open(path, framework="np") as file, safe_open(folder / WEIGHTS_FILE, framework="np") as weights:
            shapes = json.loads((file.metadata() or {})["shapes"])
            kept = {name: _unpack(file.get_tensor(name), shape) for name, shape in shapes.items()}
            broken = [name for name, each in kept.items() if np.count_nonzero(weights.get_tensor(name)[~each])]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise TicketError(
            f"{path}: cannot be read as a mask ({error}); draw the ticket again, or copy it anew"
        ) from None
    if broken:
        raise TicketError(
            f"{folder}: weights that its mask removed are not zero; the ticket was changed, draw it again"
        )
    return kept


def _unpack(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return packed bits as a bool array of that shape. Raises ValueError for bits of another number."""
    count = math.prod(shape)
    if bits.dtype != np.uint8 or bits.size != -(-count // 8):
        raise ValueError(f"{bits.size} bytes for {count} weights")
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)
