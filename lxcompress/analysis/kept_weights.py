"""The share of weights that a ticket keeps in each layer, read from its files without loading a model.

A mask is counted in its packed bits, a smaller model in the headers of its file and of the dense model's. That takes a
moment for tickets of full size; loading them would take minutes.
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
"""The most layers of a stack; a surgery file that names more is damaged."""
NUMBERED = re.compile(r"^(.*?\.)?(\w+)\.(\d+)\.")
"""The layer that a tensor is in, by the first number in its name."""
ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
"""How many bits of a byte are set."""
AGAIN = "draw the ticket again, or restore the file from a copy"

Counts = dict[str, tuple[int, int]]
"""A tensor, a layer or a part -> how many of its weights are kept, and how many it had."""


def kept_by_layer(root: Path, cell: Cell) -> dict[str, float] | None:
    """Return the share of weights that the ticket of `cell` keeps in each layer; None if the ticket is not there."""
    run = RunDir(root)
    ticket, whole = run.ticket(cell), run.dense(cell.seed) / WEIGHTS_FILE
    mask, model, surgery = (ticket / name for name in (MASK_FILE, WEIGHTS_FILE, SURGERY_FILE))
    if is_whole(ticket / TICKET_FILE):
        check_folder(ticket, only=(mask.name, surgery.name))
    if mask.exists():
        counts = count_mask(mask)
    elif surgery.exists() and model.exists() and whole.exists():
        counts = count_matrices(model, whole, surgery)
    else:
        return None
    return {name: kept / size for name, (kept, size) in by_layer(counts).items()}


def count_mask(path: Path) -> Counts:
    """Return how many weights a mask keeps of each matrix. Raises TicketError if the file is not a mask."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = json.loads((file.metadata() or {})["shapes"])
            return {name: (int(ONES[file.get_tensor(name)].sum()), math.prod(shapes[name])) for name in shapes}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise TicketError(f"{path}: cannot be read as a mask ({error}); {AGAIN}") from None


def count_matrices(smaller: Path, whole: Path, surgery: Path) -> Counts:
    """Return how many weights of each matrix are left in `smaller`, which was cut from `whole`; both are safetensors.

    Matrices whose layer is kept but whose output nothing reads now are not counted. Raises TicketError for a file that
    cannot be read.
    """
    sizes, kept_layers = _matrix_sizes(smaller), _kept_layers(surgery)
    counts = {}
    for name, size in _matrix_sizes(whole).items():
        new_name = _rename(name, kept_layers)
        if new_name is None or new_name in sizes:
            counts[name] = (sizes[new_name] if new_name else 0, size)
    of_layers = {name: layer_of(name) for name in counts if NUMBERED.match(name)}
    # The matrices of an answer head have numbers too, but they are not layers: each number has one matrix only.
    several = {layer for layer, count in Counter(of_layers.values()).items() if count > 1}
    return {name: counts[name] for name, layer in of_layers.items() if layer in several}


def by_layer(counts: Counts) -> Counts:
    """Return the counts summed over each layer: `layer 3`, or the module of a matrix outside numbered layers."""
    layers: Counts = {}
    for name, (kept, size) in counts.items():
        kept_before, size_before = layers.get(layer_of(name), (0, 0))
        layers[layer_of(name)] = (kept_before + kept, size_before + size)
    return layers


def layer_of(name: str) -> str:
    """Return the layer of a tensor: its stack and its number, or its module."""
    found = NUMBERED.match(name)
    return f"{found[2]} {found[3]}" if found else (name.split(".")[-3:] or [name])[0]


def _matrix_sizes(path: Path) -> dict[str, int]:
    """Return the number of weights of each matrix, from the file's header. Raises TicketError."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise TicketError(f"{path}: cannot be read ({error}); {AGAIN}") from None
    return {name: math.prod(shape) for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2}


def _kept_layers(surgery: Path) -> dict[str, list[int]]:
    """Return, for each stack that lost layers, the indexes of those it keeps. Raises TicketError."""
    try:
        cuts = parse_json(read_text(surgery))["cuts"]
        return {cut["name"]: _indexes(cut["keep"]) for cut in cuts if cut["kind"] == "layer"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TicketError(f"{surgery}: cannot be read ({error}); {AGAIN}") from None


def _indexes(text: str) -> list[int]:
    """Return the indexes that a text names: 0-2 5 is 0, 1, 2 and 5."""
    ends = [run.partition("-") for run in text.split()]
    runs = [range(int(low), int(high or low) + 1) for low, _, high in ends]
    if sum(map(len, runs)) > MOST_LAYERS:
        raise ValueError(f"it keeps more than {MOST_LAYERS:,} layers of a stack")
    return [index for run in runs for index in run]


def _rename(name: str, kept_layers: Mapping[str, list[int]]) -> str | None:
    """Return the name of a tensor after layers before it were removed; None if its own layer was removed."""
    for stack, kept in kept_layers.items():
        if name.startswith(f"{stack}."):
            number, _, rest = name.removeprefix(f"{stack}.").partition(".")
            return f"{stack}.{kept.index(int(number))}.{rest}" if int(number) in kept else None
    return name
