"""Ticket: a mask, the weights trained under it, and where they came from; a folder that `from_pretrained` can load.

```
TICKET/
  config.json  model.safetensors  vocab.txt    a transformers folder; weights that were removed are zeros
  mask.safetensors                             a bit a prunable weight, 1 = kept (packed, most significant bit first)
  ticket.json                                  Provenance, written last
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lxcompress.errors import PruneError, TicketError
from lxcompress.models.checkpoints import Model, load_model, load_vocabulary, save_model, save_weights
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.criteria import CRITERIA
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.recipe import SCOPES
from lxcompress.records import Provenance, read_record
from lxcompress.rundir import sha256, write_record

TICKET_FILE, MASK_FILE, MODEL_FILE = "ticket.json", "mask.safetensors", "model.safetensors"


@dataclass(frozen=True)
class Drawn:
    """What came of drawing a ticket: the mask, the survivors at the start, and the survivors trained."""

    mask: Mask
    rewound: Weights
    trained: Weights


def draw_ticket(
    start: Weights, dense: Weights, *, choose: Callable[[Weights], Mask], train: Callable[[Weights, Mask], Weights]
) -> Drawn:
    """Prune `dense`, rewind the survivors to `start`, retrain them (Frankle & Carbin 2019)."""
    mask = choose(dense)
    rewound = mask.apply(start)
    return Drawn(mask=mask, rewound=rewound, trained=train(rewound, mask))


@dataclass(frozen=True)
class Ticket:
    """A ticket read from disk."""

    folder: Path
    model: Model
    mask: Mask
    provenance: Provenance


def save_ticket(
    folder: Path,
    model: Model,
    *,
    mask: Mask,
    weights: Weights,
    vocabulary: Sequence[str],
    provenance: Provenance,
) -> None:
    """Writes the ticket; its last file is `provenance` with the checksums filled in.

    Raises PruneError if the mask does not hold in `weights`.
    """
    mask.check(weights)
    if not mask.holds_in(weights):
        raise PruneError(f"{folder}: weights that the mask removed are not zero; this ticket would be a lie")
    save_model(folder, model, weights, vocabulary)
    save_mask(folder / MASK_FILE, mask)
    sums = {"model_sha256": sha256(folder / MODEL_FILE), "mask_sha256": sha256(folder / MASK_FILE)}
    write_record(folder / TICKET_FILE, provenance.model_copy(update=sums))


def load_ticket(folder: Path) -> Ticket:
    """Reads a ticket, its checksums and its mask verified. Raises TicketError."""
    if not (folder / TICKET_FILE).is_file():
        raise TicketError(
            f"{folder}: is not a ticket (it has no {TICKET_FILE}); give a folder made by `lxcompress study` "
            "(RUN/tickets/...) or by `lxcompress prune`"
        )
    provenance = read_record(folder / TICKET_FILE, Provenance, TicketError)
    for name, expected in ((MODEL_FILE, provenance.model_sha256), (MASK_FILE, provenance.mask_sha256)):
        _verify(folder / name, expected)
    model, mask = load_model(folder), load_mask(folder / MASK_FILE)
    try:
        mask.check(model.weights)
    except PruneError as error:
        raise TicketError(f"{folder}: {error}") from None
    if not mask.holds_in(model.weights):
        raise TicketError(
            f"{folder}: weights that its mask removed are not zero; the ticket was changed, draw it again"
        )
    if provenance.sparsity != mask.count(model.live, model.whole):
        raise TicketError(
            f"{folder / TICKET_FILE}: its sparsity is not that of its mask; the ticket was changed, draw it again"
        )
    return Ticket(folder, model, mask, provenance)


def prune_model(
    source: str, out: Path, *, criterion: str, sparsity: float, scope: str = "layer", seed: int = 0
) -> Provenance:
    """Prunes the model at `source` (a transformers folder, a hub name or a ticket) and saves it as a ticket at `out`,
    neither rewound nor trained. A weight that is zero already is only a small weight. Raises LxError."""
    if criterion not in CRITERIA:
        raise PruneError(f"--criterion {criterion}: is unknown; this lxcompress knows {', '.join(CRITERIA)}")
    if scope not in SCOPES:
        raise PruneError(f"--scope {scope}: is unknown; this lxcompress knows {', '.join(SCOPES)}")
    if not 0 < sparsity < 1:
        raise PruneError(f"--sparsity {sparsity:g}: is a share of the weights between 0 and 1, such as 0.5 for 50 %")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TicketError(f"{out}: exists and is not an empty folder; give another --out, or remove it")
    earlier = load_ticket(Path(source)) if is_ticket(Path(source)) else None
    model = earlier.model if earlier else load_model(source)
    vocabulary = load_vocabulary(source)
    mask = choose_mask(model.prunable, criterion=criterion, sparsity=sparsity, scope=scope, seed=seed)
    provenance = Provenance(
        cell=None,
        criterion=criterion,
        granularity="weight",
        scope=scope,
        target=sparsity,
        seed=seed,
        sparsity=mask.count(model.live, model.whole),
        start_file=None,
        start_sha256=None,
        data=earlier.provenance.data if earlier else None,
        accuracy=None,
    )
    save_ticket(out, model, mask=mask, weights=mask.apply(model.weights), vocabulary=vocabulary, provenance=provenance)
    return provenance


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
        raise TicketError(
            f"{path}: cannot be read as a mask ({error}); draw the ticket again, or copy it anew"
        ) from None


def _unpack(bits: np.ndarray, shape: Sequence[int]) -> Tensor:
    count = int(np.prod(shape))
    if bits.dtype != np.uint8 or bits.size != -(-count // 8):
        raise ValueError(f"{bits.size} bytes of {bits.dtype} for {count} bits")
    return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool).reshape(shape))


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise TicketError(f"{path}: is missing from the ticket; copy the whole folder, or draw the ticket again")
    found = sha256(path)
    if found != expected:
        raise TicketError(
            f"{path}: is not the file the ticket was saved with (sha256 {found[:12]}..., expected {expected[:12]}...); "
            "copy the ticket anew, or draw it again"
        )
