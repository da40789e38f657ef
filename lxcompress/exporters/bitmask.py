"""Bitmask: a file with the bits of a ticket's mask and the kept weights; lxcompress/bitmask.py defines the format.

A bitmask artifact of a ticket is itself a ticket: its folder has a ticket.json with the checksum of the bitmask file
(and a surgery.json, if the ticket is a smaller model or a compound). A model without a ticket is stored with all its
weights, because no mask is derived from zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from lxcompress.bitmask import iterate_tensors, write_bitmask
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.filenames import BITMASK_FILE, SURGERY_FILE, TICKET_FILE
from lxcompress.models.checkpoints import identify, save_config
from lxcompress.pruning.compound import mask_in
from lxcompress.records import dump_record
from lxcompress.rundir import sha256, write_text
from lxcompress.tickets import Ticket, write_provenance


def write(job: Job) -> WrittenFiles:
    """Write bitmask.safetensors, config.json and, for a ticket, its records. Raises ExportError."""
    path = job.out / BITMASK_FILE
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in job.model.weights.items()}
    mask = mask_in(job.ticket.cut) if job.ticket else None
    masks = {name: kept.cpu().numpy() for name, kept in mask.kept.items()} if mask else {}
    write_bitmask(path, weights, masks, precision=job.precision)
    files = [path, save_config(job.out, job.model)]
    files += _write_ticket(job.out, job.ticket) if job.ticket else []
    return WrittenFiles(files, _notes(job, has_mask=bool(masks)))


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices; removed weights count as zeros."""
    _, family = identify(str(out))
    zeros = elements = 0
    for name, packed in iterate_tensors(out / BITMASK_FILE):
        # The published protocol also masks matrices that are not prunable here.
        if packed.bits is not None or family.is_prunable(name, packed.shape):
            zeros += prod(packed.shape) - int(np.count_nonzero(packed.values))
            elements += prod(packed.shape)
    return zeros, elements


def _write_ticket(out: Path, ticket: Ticket) -> list[Path]:
    """Write the records that `load_ticket` needs in addition to the weights; return the written files."""
    files, sums = [out / TICKET_FILE], {"model_sha256": sha256(out / BITMASK_FILE), "mask_sha256": ""}
    if ticket.surgery:
        write_text(out / SURGERY_FILE, dump_record(ticket.surgery))
        sums["surgery_sha256"] = sha256(out / SURGERY_FILE)
        files.append(out / SURGERY_FILE)
    write_provenance(out, ticket.provenance.model_copy(update=sums))
    return files


def _notes(job: Job, *, has_mask: bool) -> Sequence[str]:
    """Return the notes for the user about the file."""
    notes = []
    if not has_mask:
        notes.append("there is no mask to pack: every weight is stored")
    if job.precision != "fp32":
        notes.append("runtimes here turn it back into fp32 as they load it: it saves disk and download, not memory")
    return notes
