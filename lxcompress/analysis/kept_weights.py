"""Count the weights that a ticket keeps in each layer, from its files and without loading a model.

For a mask, the bits in the file are counted. For a smaller model, the shapes in the headers of its file and of the
dense model's file are compared. For a compound, the bits are compared with the dense model's shapes. All take a moment
for tickets of full size; loading them would take minutes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lxcompress.checksums import check_folder
from lxcompress.errors import TicketError
from lxcompress.filenames import MASK_FILE, SURGERY_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.recipe import Cell
from lxcompress.records import is_whole
from lxcompress.rundir import RunDir
from lxcompress.text import parse_json, read_text

MOST_LAYERS = 10_000
"""The largest number of layers in a stack; a surgery file that names more is damaged."""
NUMBERED = re.compile(r"^(.*?\.)?(\w+)\.(\d+)\.")
"""Matches the name of a tensor up to its layer: the name of the stack, and the first number in the name."""
ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
"""ONES[b] is the number of bits that are 1 in the byte b."""
AGAIN = "draw the ticket again, or restore the file from a copy"

Counts = dict[str, tuple[int, int]]
"""Name of a tensor, a layer or a part -> the number of weights that it keeps, and the number that it had."""


def kept_by_layer(root: Path, cell: Cell) -> dict[str, float] | None:
    """Return {layer: kept fraction (0-1) of its weights} of the ticket of `cell`; None if the ticket is not there.

    Raises TicketError if a file of the ticket was changed or cannot be read.
    """
    run = RunDir(root)
    ticket, whole = run.ticket(cell), run.dense(cell.seed) / WEIGHTS_FILE
    mask, model, surgery = (ticket / name for name in (MASK_FILE, WEIGHTS_FILE, SURGERY_FILE))
    if is_whole(ticket / TICKET_FILE):
        check_folder(ticket, only=(mask.name, surgery.name))
    if mask.exists() and surgery.exists():
        if not whole.exists():
            return None
        counts = count_compound(mask, whole, surgery)
    elif mask.exists():
        counts = count_mask(mask)
    elif surgery.exists() and model.exists() and whole.exists():
        counts = count_matrices(model, whole, surgery)
    else:
        return None
    return {name: kept / size for name, (kept, size) in by_layer(counts).items()}


def count_mask(path: Path) -> Counts:
    """Return for each matrix how many weights a mask keeps, and how many the matrix has.

    Raises TicketError if the file is not a mask.
    """
    try:
        with safe_open(path, framework="np") as file:
            shapes = json.loads((file.metadata() or {})["shapes"])
            return {name: (int(ONES[file.get_tensor(name)].sum()), math.prod(shapes[name])) for name in shapes}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise TicketError(f"{path}: cannot be read as a mask ({error}); {AGAIN}") from None


def count_matrices(smaller: Path, whole: Path, surgery: Path) -> Counts:
    """Return for each matrix of a layer how many weights are left in `smaller`, and how many it has in `whole`.

    Both are safetensors files; `smaller` was made from `whole` by the surgery in the file `surgery`. A matrix is not
    counted if its layer is kept and the matrix itself was left out, because no answer depends on it now. Raises
    TicketError for a file that cannot be read.
    """
    sizes, kept_layers = _matrix_sizes(smaller), _kept_layers(surgery)
    counts = {}
    for name, size in _matrix_sizes(whole).items():
        new_name = _rename(name, kept_layers)
        if new_name is None or new_name in sizes:
            counts[name] = (sizes[new_name] if new_name else 0, size)
    of_layers = {name: layer_of(name) for name in counts if NUMBERED.match(name)}
    # The matrices of an answer head have numbers too, but these are not layers: each number has only one matrix.
    several = {layer for layer, count in Counter(of_layers.values()).items() if count > 1}
    return {name: counts[name] for name, layer in of_layers.items() if layer in several}


def count_compound(mask: Path, whole: Path, surgery: Path) -> Counts:
    """Return for each matrix in `whole` how many weights are kept by the mask of the smaller model, and its size.

    The smaller model was made by the surgery in the file `surgery`. As in `count_matrices`, matrices outside of layers
    are counted only if the mask has them. Raises TicketError for a file that cannot be read.
    """
    kept, kept_layers = count_mask(mask), _kept_layers(surgery)
    counts = {}
    for name, size in _matrix_sizes(whole).items():
        new_name = _rename(name, kept_layers)
        if new_name is None or new_name in kept:
            counts[name] = (kept[new_name][0] if new_name else 0, size)
    return counts


def by_layer(counts: Counts) -> Counts:
    """Return the counts summed over each layer, such as `layer 3`; other matrices are summed by their module."""
    layers: Counts = {}
    for name, (kept, size) in counts.items():
        kept_before, size_before = layers.get(layer_of(name), (0, 0))
        layers[layer_of(name)] = (kept_before + kept, size_before + size)
    return layers


def layer_of(name: str) -> str:
    """Return the layer of a tensor as its stack and number, such as `layer 3`; outside of a stack, its module."""
    found = NUMBERED.match(name)
    return f"{found[2]} {found[3]}" if found else (name.split(".")[-3:] or [name])[0]


def _matrix_sizes(path: Path) -> dict[str, int]:
    """Return {name: number of weights} of the matrices in a safetensors file, from its header. Raises TicketError."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise TicketError(f"{path}: cannot be read ({error}); {AGAIN}") from None
    return {name: math.prod(shape) for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2}


def _kept_layers(surgery: Path) -> dict[str, list[int]]:
    """Return {name of a stack: indexes of its kept layers}, for stacks that lost layers. Raises TicketError."""
    try:
        cuts = parse_json(read_text(surgery))["cuts"]
        return {cut["name"]: _indexes(cut["keep"]) for cut in cuts if cut["kind"] == "layer"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TicketError(f"{surgery}: cannot be read ({error}); {AGAIN}") from None


def _indexes(text: str) -> list[int]:
    """Return the indexes that a text lists: "0-2 5" is 0, 1, 2 and 5. Raises ValueError for too many."""
    ends = [run.partition("-") for run in text.split()]
    runs = [range(int(low), int(high or low) + 1) for low, _, high in ends]
    if sum(map(len, runs)) > MOST_LAYERS:
        raise ValueError(f"it keeps more than {MOST_LAYERS:,} layers of a stack")
    return [index for run in runs for index in run]


def _rename(name: str, kept_layers: Mapping[str, list[int]]) -> str | None:
    """Return the name that a tensor has after the surgery; None if its layer was removed.

    Removing layers changes the numbers of the layers behind them.
    """
    for stack, kept in kept_layers.items():
        if name.startswith(f"{stack}."):
            number, _, rest = name.removeprefix(f"{stack}.").partition(".")
            return f"{stack}.{kept.index(int(number))}.{rest}" if int(number) in kept else None
    return name
