"""Ticket: a mask or a surgery, the weights trained under it, and where they came from; a folder.

```
TICKET/
  config.json  model.safetensors  vocab.txt    a transformers folder; weights that were removed are zeros
  mask.safetensors                             a bit a prunable weight, 1 = kept (packed, most significant bit first)
  ticket.json                                  Provenance, written last
```
A ticket that is a smaller model has surgery.json in place of the mask. `from_pretrained` loads all but those of fewer
neurons or heads, whose config.json is of the model that they were cut from: `load_model` loads those.

A ticket that was exported as a bitmask has bitmask.safetensors in place of its weights and of its mask.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lxcompress.bitmask import read_masks
from lxcompress.checksums import check_files, hash_files, ticket_origin
from lxcompress.errors import PruneError, TicketError, unreadable
from lxcompress.filenames import BITMASK_FILE, MASK_FILE, SURGERY_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import Model, Words, is_packed, read_model, save_model, save_weights
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.surgery import Surgery, recount, uncut_config
from lxcompress.records import Provenance, Sparsity, check_seal, dump_record, read_record, read_unsealed
from lxcompress.rundir import sha256, write_record, write_text

NO_SUMS = {"model_sha256": "", "mask_sha256": "", "surgery_sha256": ""}


@dataclass(frozen=True)
class Ticket:
    """A ticket read from disk."""

    folder: Path
    model: Model
    cut: Mask | Surgery
    provenance: Provenance

    @property
    def mask(self) -> Mask:
        """The mask. Raises TicketError for a ticket that is a smaller model."""
        if isinstance(self.cut, Surgery):
            raise TicketError(f"{self.folder}: is a smaller model and has no mask; give a ticket of masked weights")
        return self.cut


def save_ticket(
    folder: Path,
    model: Model,
    *,
    cut: Mask | Surgery,
    weights: Weights,
    vocabulary: Words,
    provenance: Provenance,
) -> None:
    """Writes the ticket; its last file is `provenance` with the checksums filled in. A ticket with a Surgery is that of
    the smaller model that came of it, and of weights of that size.

    Raises PruneError if the mask does not hold in `weights`, or the surgery does not make `model`.
    """
    if isinstance(cut, Surgery):
        recount(model, cut)
        if _shapes(weights) != _shapes(model.weights):
            raise PruneError(f"{folder}: the weights are not those of the smaller model; cut them by the same surgery")
    else:
        cut.check(weights)
        if not cut.holds_in(weights):
            raise PruneError(f"{folder}: weights that the mask removed are not zero; this ticket would be a lie")
    for name in (TICKET_FILE, MASK_FILE, SURGERY_FILE):  # of an earlier try, perhaps of another kind
        (folder / name).unlink(missing_ok=True)
    save_model(folder, model, weights, vocabulary)
    sums = {"model_sha256": sha256(folder / WEIGHTS_FILE)}
    if isinstance(cut, Surgery):
        write_text(folder / SURGERY_FILE, dump_record(cut))
        sums["surgery_sha256"] = sha256(folder / SURGERY_FILE)
    else:
        save_mask(folder / MASK_FILE, cut)
        sums["mask_sha256"] = sha256(folder / MASK_FILE)
    write_provenance(folder, provenance.model_copy(update={**NO_SUMS, **sums}))


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write ticket.json with the SHA-256 of the folder's other files beside those that `provenance` has already."""
    named = {WEIGHTS_FILE, MASK_FILE, SURGERY_FILE, BITMASK_FILE}
    files = {name: digest for name, digest in hash_files(folder).items() if name not in named}
    write_record(folder / TICKET_FILE, provenance.model_copy(update={"files": files}))


def load_ticket(folder: Path) -> Ticket:
    """Reads a ticket, its checksums and its mask or surgery verified. Raises TicketError."""
    if not (folder / TICKET_FILE).is_file():
        raise TicketError(
            f"{folder}: is not a ticket (it has no {TICKET_FILE}); give a folder made by `lxcompress study` "
            "(RUN/tickets/...) or by `lxcompress prune`"
        )
    provenance = read_unsealed(folder / TICKET_FILE, Provenance, TicketError)
    check_files(folder, ticket_origin(folder, provenance))
    model = read_model(folder)
    read = _read_surgery if provenance.surgery_sha256 else _read_mask
    try:
        cut, sparsity = read(folder, model)
    except PruneError as error:
        raise TicketError(f"{folder}: {error}") from None
    if provenance.sparsity != sparsity:
        what = "surgery" if isinstance(cut, Surgery) else "mask"
        raise TicketError(
            f"{folder / TICKET_FILE}: its sparsity is not that of its {what}; the ticket was changed, draw it again"
        )
    check_seal(folder / TICKET_FILE, TicketError, remedy="draw the ticket again")  # last: what is above says more
    return Ticket(folder, model, cut, provenance)


def _read_mask(folder: Path, model: Model) -> tuple[Mask, Sparsity]:
    """The mask of a ticket, which holds in its weights, and what it counts. Raises LxError."""
    mask = _unpack_mask(folder / BITMASK_FILE) if is_packed(folder) else load_mask(folder / MASK_FILE)
    mask.check(model.weights)
    if not mask.holds_in(model.weights):
        raise TicketError(
            f"{folder}: weights that its mask removed are not zero; the ticket was changed, draw it again"
        )
    return mask, mask.count(model.live, model.whole)


def _read_surgery(folder: Path, model: Model) -> tuple[Surgery, Sparsity]:
    """The surgery of a ticket, which makes its model, and what it counts. Raises LxError."""
    surgery = read_record(folder / SURGERY_FILE, Surgery, TicketError)
    return surgery, recount(model, surgery)


def mask_of(ticket: Ticket) -> Mask:
    """What the ticket keeps of the prunable weights of the model that it was drawn of. Raises PruneError for layers."""
    if isinstance(ticket.cut, Mask):
        return ticket.cut
    family = ticket.model.family
    config = uncut_config(ticket.model, ticket.cut)
    return ticket.cut.mask(
        {
            name: shape
            for name, shape in family.shapes(config).items()
            if family.is_prunable(name, shape) and not family.is_dead(name, config)
        }
    )


def is_ticket(folder: Path) -> bool:
    """Whether `folder` says that it is a ticket."""
    return (folder / TICKET_FILE).is_file()


def save_mask(path: Path, mask: Mask) -> None:
    """Writes a mask as packed bits, an eighth of a byte a weight."""
    bits = {name: torch.from_numpy(np.packbits(kept.numpy().reshape(-1))) for name, kept in mask.kept.items()}
    shapes = json.dumps({name: list(kept.shape) for name, kept in mask.kept.items()})
    save_weights(path, bits, {"shapes": shapes})


def load_mask(path: Path) -> Mask:
    """Reads a mask. Raises TicketError."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = json.loads((file.metadata() or {})["shapes"])
            return Mask({name: _unpack(file.get_tensor(name), shape) for name, shape in shapes.items()})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        found = unreadable(path, error, TicketError)
        raise found or TicketError(
            f"{path}: cannot be read as a mask ({error}); draw the ticket again, or copy it anew"
        ) from None


def _unpack_mask(path: Path) -> Mask:
    """The mask of a bitmask checkpoint. Raises TicketError."""
    masks = read_masks(path)
    if not masks:
        raise TicketError(f"{path}: has no mask, but ticket.json names no surgery either; copy the whole ticket again")
    return Mask({name: torch.from_numpy(kept) for name, kept in masks.items()})


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def _unpack(bits: np.ndarray, shape: Sequence[int]) -> Tensor:
    count = int(np.prod(shape))
    if bits.dtype != np.uint8 or bits.size != -(-count // 8):
        raise ValueError(f"{bits.size} bytes of {bits.dtype} for {count} bits")
    return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool).reshape(shape))
