"""Read the mask of a ticket as bool arrays, without torch and without the model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lxcompress.bitmask import read_masks
from lxcompress.checksums import is_packed, read_checked_provenance
from lxcompress.errors import TicketError, unreadable
from lxcompress.filenames import BITMASK_FILE, MASK_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.records import check_seal


def read_kept(folder: Path) -> dict[str, np.ndarray] | None:
    """Return {name of a weight matrix: bool array, True = kept} of a ticket; None if the ticket is a smaller model.

    Raises TicketError, also if a file does not match its checksum in the ticket's record, or if a removed weight is not
    zero.
    """
    provenance = read_checked_provenance(folder)
    if provenance.surgery_sha256:
        return None
    kept = read_masks(folder / BITMASK_FILE) if is_packed(folder) else _read_checked_mask(folder)
    count, total = sum(int(matrix.sum()) for matrix in kept.values()), sum(matrix.size for matrix in kept.values())
    if (provenance.sparsity.kept, provenance.sparsity.prunable) != (count, total):
        raise TicketError(
            f"{folder / TICKET_FILE}: its sparsity differs from its mask's; the ticket was changed, draw it again"
        )
    check_seal(folder / TICKET_FILE, TicketError, remedy="draw the ticket again")
    return kept


def read_mask_file(path: Path) -> dict[str, np.ndarray]:
    """Return {name of a weight matrix: bool array, True = kept} from a mask file. Raises TicketError."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = json.loads((file.metadata() or {})["shapes"])
            return {name: _unpack(file.get_tensor(name), shape) for name, shape in shapes.items()}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        found = unreadable(path, error, TicketError)
        raise found or TicketError(
            f"{path}: cannot be read as a mask ({error}); draw the ticket again, or copy it again"
        ) from None


def _read_checked_mask(folder: Path) -> dict[str, np.ndarray]:
    """Return the mask in a ticket's mask.safetensors. Raises TicketError if a removed weight is not zero."""
    path, kept = folder / WEIGHTS_FILE, read_mask_file(folder / MASK_FILE)
    try:
        with safe_open(path, framework="np") as weights:
            is_broken = any(np.count_nonzero(weights.get_tensor(name)[~matrix]) for name, matrix in kept.items())
    except (OSError, SafetensorError, ValueError, TypeError, IndexError) as error:
        raise TicketError(
            f"{path}: its weights do not fit its mask ({error}); draw the ticket again, or copy it again"
        ) from None
    if is_broken:
        raise TicketError(
            f"{folder}: weights that its mask removed are not zero; the ticket was changed, draw it again"
        )
    return kept


def _unpack(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return packed bits as a bool array of `shape`. Raises ValueError if the number of bits does not fit."""
    count = math.prod(shape)
    if bits.dtype != np.uint8 or bits.size != -(-count // 8):
        raise ValueError(f"{bits.size} bytes of {bits.dtype} for {count} bits")
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)
