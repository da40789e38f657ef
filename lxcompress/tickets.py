"""Ticket: a folder with a mask, a surgery or both, the weights trained with it, and a record of their origin.

```
TICKET/
  config.json  model.safetensors  vocab.txt    a transformers folder; removed weights are zeros
  mask.safetensors                             one bit for each prunable weight, 1 = kept (most significant bit first)
  ticket.json                                  Provenance, written last
```
A ticket that is a smaller model has surgery.json in place of the mask. A compound ticket has both, and its mask is that
of the smaller model. transformers' `from_pretrained` loads every ticket except those with fewer neurons or heads. A
ticket with fewer neurons or heads has the config.json of the model before the surgery, and is loaded by lxcompress's
`load_model`.

A ticket that was exported as a bitmask has bitmask.safetensors in place of its weights and its mask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lxcompress.bitmask import read_masks
from lxcompress.checksums import hash_files, is_packed, read_checked_provenance
from lxcompress.errors import PruneError, TicketError
from lxcompress.filenames import BITMASK_FILE, MASK_FILE, SURGERY_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import Model, read_model, save_model, save_weights
from lxcompress.models.vocabulary import Words
from lxcompress.pruning.bits import read_mask_file
from lxcompress.pruning.compound import Compound, TicketCut, mask_in, recount_cut, surgery_in
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.surgery import Shapes, Surgery, uncut_config
from lxcompress.records import Provenance, check_seal, dump_record, read_record
from lxcompress.rundir import sha256, write_record, write_text

NO_SUMS = {"model_sha256": "", "mask_sha256": "", "surgery_sha256": ""}


@dataclass(frozen=True)
class Ticket:
    """A ticket that was read from its folder: its model, its origin, and what it keeps (`cut`)."""

    folder: Path
    model: Model
    cut: TicketCut
    provenance: Provenance

    @property
    def mask(self) -> Mask:
        """Return the mask of the weights of the ticket's model. Raises TicketError for a ticket that has no mask."""
        mask = mask_in(self.cut)
        if mask is None:
            raise TicketError(f"{self.folder}: is a structured ticket, which has no mask; give a ticket with a mask")
        return mask

    @property
    def surgery(self) -> Surgery | None:
        """Return the surgery that made the ticket's model; None if the model has the size of the original model."""
        return surgery_in(self.cut)


def save_ticket(
    folder: Path,
    model: Model,
    *,
    cut: TicketCut,
    weights: Weights,
    vocabulary: Words,
    provenance: Provenance,
) -> None:
    """Write a ticket to `folder`. The last file is ticket.json: `provenance`, with the checksums of the other files.

    With a Surgery, `model` and `weights` are those of the smaller model. Raises PruneError if weights that the mask
    removed are not zero, or if the result of the surgery is not `model`.
    """
    recount_cut(model, cut)
    mask, surgery = mask_in(cut), surgery_in(cut)
    if surgery and _shapes(weights) != _shapes(model.weights):
        raise PruneError(f"{folder}: the weights do not fit the smaller model; apply its surgery to them")
    if mask:
        mask.check(weights)
    if mask and not mask.holds_in(weights):
        raise PruneError(f"{folder}: weights that the mask removed are not zero; apply the mask to them first")
    for name in (TICKET_FILE, MASK_FILE, SURGERY_FILE):  # left by an interrupted write
        (folder / name).unlink(missing_ok=True)
    save_model(folder, model, weights, vocabulary)
    sums = {"model_sha256": sha256(folder / WEIGHTS_FILE)}
    if surgery:
        write_text(folder / SURGERY_FILE, dump_record(surgery))
        sums["surgery_sha256"] = sha256(folder / SURGERY_FILE)
    if mask:
        save_mask(folder / MASK_FILE, mask)
        sums["mask_sha256"] = sha256(folder / MASK_FILE)
    write_provenance(folder, provenance.model_copy(update={**NO_SUMS, **sums}))


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write ticket.json, with the SHA-256 of the vocabulary and other files in `files`.

    The weights, the mask and the surgery have their own fields in `provenance`.
    """
    named = {WEIGHTS_FILE, MASK_FILE, SURGERY_FILE, BITMASK_FILE}
    files = {name: digest for name, digest in hash_files(folder).items() if name not in named}
    write_record(folder / TICKET_FILE, provenance.model_copy(update={"files": files}))


def load_ticket(folder: Path) -> Ticket:
    """Read the ticket in `folder`, and verify its checksums, its mask and its surgery. Raises TicketError."""
    provenance = read_checked_provenance(folder)
    model = read_model(folder)
    try:
        cut = _read_cut(folder, provenance)
        sparsity = recount_cut(model, cut)
        _check_zeros(folder, model, mask_in(cut))
        if isinstance(cut, Compound) and provenance.first:
            first = recount_cut(model, cut.surgery)
            if provenance.first.sparsity != first:
                raise TicketError(
                    f"{folder / TICKET_FILE}: the sparsity of its first step differs from its surgery's; the ticket "
                    "was changed, draw it again"
                )
    except PruneError as error:
        raise TicketError(f"{folder}: {error}") from None
    if provenance.sparsity != sparsity:
        what = {Mask: "mask", Surgery: "surgery"}.get(type(cut), "surgery and mask")
        raise TicketError(
            f"{folder / TICKET_FILE}: its sparsity differs from its {what}'s; the ticket was changed, draw it again"
        )
    # The seal is checked last, because the checks above have more specific errors.
    check_seal(folder / TICKET_FILE, TicketError, remedy="draw the ticket again")
    return Ticket(folder, model, cut, provenance)


def _read_cut(folder: Path, provenance: Provenance) -> TicketCut:
    """Return the mask, the surgery or both of the ticket in `folder`. Raises TicketError."""
    has_surgery, has_mask = bool(provenance.surgery_sha256), bool(provenance.first or not provenance.surgery_sha256)
    if provenance.first and not has_surgery:
        raise TicketError(
            f"{folder / TICKET_FILE}: names a first step but no surgery; the ticket was changed, draw it again"
        )
    surgery = read_record(folder / SURGERY_FILE, Surgery, TicketError) if has_surgery else None
    if not has_mask:
        assert surgery is not None
        return surgery
    mask = _unpack_mask(folder / BITMASK_FILE) if is_packed(folder) else load_mask(folder / MASK_FILE)
    return Compound(surgery, mask) if surgery else mask


def _check_zeros(folder: Path, model: Model, mask: Mask | None) -> None:
    """Raise TicketError if a weight that the mask removed is not zero."""
    if mask and not mask.holds_in(model.weights):
        raise TicketError(
            f"{folder}: weights that its mask removed are not zero; the ticket was changed, draw it again"
        )


def mask_of(ticket: Ticket) -> Mask:
    """Return the mask of the prunable weights that the ticket keeps, in the shapes of the model before pruning.

    The mask of a smaller model is computed from its surgery. Raises PruneError if layers were removed.
    """
    cut = ticket.cut
    if isinstance(cut, Mask):
        return cut
    shapes = _shapes_before(ticket.model, cut.surgery if isinstance(cut, Compound) else cut)
    return cut.spread(shapes) if isinstance(cut, Compound) else cut.mask(shapes)


def _shapes_before(model: Model, surgery: Surgery) -> Shapes:
    """Return {name: shape} of the prunable matrices of the model before the surgery that made `model`."""
    family, config = model.family, uncut_config(model, surgery)
    return {
        name: shape
        for name, shape in family.shapes(config).items()
        if family.is_prunable(name, shape) and not family.is_dead(name, config)
    }


def is_ticket(folder: Path) -> bool:
    """Return whether `folder` has a ticket.json."""
    return (folder / TICKET_FILE).is_file()


def save_mask(path: Path, mask: Mask) -> None:
    """Write a mask to `path`, with one bit for each weight."""
    bits = {name: torch.from_numpy(np.packbits(kept.numpy().reshape(-1))) for name, kept in mask.kept.items()}
    shapes = json.dumps({name: list(kept.shape) for name, kept in mask.kept.items()})
    save_weights(path, bits, {"shapes": shapes})


def load_mask(path: Path) -> Mask:
    """Return the mask in a mask file. Raises TicketError."""
    return Mask({name: torch.from_numpy(kept) for name, kept in read_mask_file(path).items()})


def _unpack_mask(path: Path) -> Mask:
    """Return the mask of a bitmask checkpoint. Raises TicketError."""
    masks = read_masks(path)
    if not masks:
        raise TicketError(f"{path}: has no mask, but ticket.json names no surgery either; copy the whole ticket again")
    return Mask({name: torch.from_numpy(kept) for name, kept in masks.items()})


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    """Return {name: shape} of the weights."""
    return {name: tensor.shape for name, tensor in weights.items()}
