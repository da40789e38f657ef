"""What tickets keep, part by part and layer by layer: read from their folders, without loading a model.

A mask is counted in its packed bits, and a smaller model in the headers of its file and of the dense one's: of
full-size tickets that takes a moment, where loading them would take minutes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lxcompress.analysis.summary import RunSummary
from lxcompress.checksums import check_folder
from lxcompress.errors import TicketError
from lxcompress.filenames import MASK_FILE, SURGERY_FILE, TICKET_FILE, WEIGHTS_FILE
from lxcompress.recipe import Cell, Method
from lxcompress.records import is_whole
from lxcompress.report.chart import heat_map
from lxcompress.report.curves import Panel
from lxcompress.rundir import RunDir
from lxcompress.text import parse_json, read_text
from lxcompress.units import percent, short_percent

MOST_PANELS = 3
MOST_LAYERS = 10_000
"""Of a stack; a surgery that names more is damaged."""
WIDTH, NAME_WIDTH = 350, 92
NUMBERED = re.compile(r"^(.*?\.)?(\w+)\.(\d+)\.")
"""The layer that a tensor is in, by the first number in its name."""
ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
"""How many bits of a byte are set."""
LXMERT = {
    "layer": "language",
    "visn_fc": "regions",
    "r_layers": "vision",
    "x_layers": "cross",
    "pooler": "pooler",
    "logit_fc": "answer head",
}
"""LXMERT's own names for its parts, and a reader's, in the order in which an answer is made."""
PARTS = ("language", "vision", "cross", "head")
"""The parts of every family, in that order (records.Result.kept_by_modality)."""

Counts = dict[str, tuple[int, int]]
"""A tensor, a layer or a part -> how many of its weights stay, and of how many."""


@dataclass(frozen=True)
class KeptSection:
    """The panels, one a sparsity, and what stands between the reader and more."""

    panels: tuple[Panel, ...]
    absent: str | None


@dataclass(frozen=True)
class _Column:
    slot: int
    label: str
    parts: Mapping[str, float]
    layers: Mapping[str, float]

    @property
    def is_known(self) -> bool:
        """Whether anything is known."""
        return bool(self.parts or self.layers)


def show_kept(summary: RunSummary, slots: Mapping[Method, int], picked: float | None) -> KeptSection | None:
    """What the drawn methods keep at a few sparsities, that of the pick among them; None where nothing is known."""
    wanted = {method: slot for method, slot in slots.items() if not method.is_control}
    missing: list[str] = []
    found = [(target, _columns(summary, wanted, target, missing)) for target in _targets(summary, wanted, picked)]
    panels = [_panel(target, columns) for target, columns in found if any(each.is_known for each in columns)]
    return KeptSection(tuple(panels), _absent_words(missing)) if panels else None


def count_mask(path: Path) -> Counts:
    """Matrix -> what a mask keeps of it, and its weights. Raises TicketError for a file that is no mask."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = json.loads((file.metadata() or {})["shapes"])
            return {name: (int(ONES[file.get_tensor(name)].sum()), math.prod(shapes[name])) for name in shapes}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise TicketError(
            f"{path}: cannot be read as a mask ({error}); draw the ticket again, or copy it anew"
        ) from None


def count_matrices(smaller: Path, whole: Path, surgery: Path) -> Counts:
    """Matrix of a layer -> what stays of it in a model that was cut from `whole`; both are safetensors files.

    Matrices of layers that stay and lead nowhere now are not counted. Raises TicketError for an unreadable file.
    """
    kept, dropped = _sizes(smaller), _dropped_layers(surgery)
    counts = {}
    for name, size in _sizes(whole).items():
        now = _rename(name, dropped)
        if now is None or now in kept:
            counts[name] = (kept[now] if now else 0, size)
    of_layers = {name: _layer(name) for name in counts if NUMBERED.match(name)}
    # The matrices of an answer head are numbered too, and are no layers: each number has one alone.
    several = {layer for layer, count in Counter(of_layers.values()).items() if count > 1}
    return {name: counts[name] for name, layer in of_layers.items() if layer in several}


def by_layer(counts: Counts) -> Counts:
    """Layer -> what stays of its matrices: `layer 3`, or the module of a matrix that is in no numbered one."""
    layers: Counts = {}
    for name, (kept, size) in counts.items():
        before = layers.get(_layer(name), (0, 0))
        layers[_layer(name)] = (before[0] + kept, before[1] + size)
    return layers


def _targets(summary: RunSummary, wanted: Mapping[Method, int], picked: float | None) -> list[float]:
    """The sparsities shown: the pick's, then the lowest and the highest, then what lies between."""
    known = sorted({group.key.target for group in summary.groups if group.key.method in wanted and group.key.target})
    if len(known) <= MOST_PANELS:
        return known
    middle = picked if picked in known else known[len(known) // 2]
    first = dict.fromkeys([middle, known[0], known[-1], known[len(known) // 2]])
    return sorted(list(first)[:MOST_PANELS])


def _columns(summary: RunSummary, wanted: Mapping[Method, int], target: float, missing: list[str]) -> list[_Column]:
    """The best seed's ticket of each method; those that are not there are added to `missing`."""
    parts = {result.cell: result.kept_by_modality for result in summary.results}
    columns = []
    for group in summary.groups:
        if group.key.target == target and group.key.method in wanted:
            cell = group.key.cell(group.best_seed)
            layers = _layers(summary.root, cell)
            if layers is None:
                missing.append(cell.id)
            columns.append(_Column(wanted[group.key.method], group.key.label, parts[cell.id], layers or {}))
    return columns


def _layers(root: Path, cell: Cell) -> dict[str, float] | None:
    """Layer -> share that stays; None where the ticket is not there."""
    run = RunDir(root)
    mask, model, surgery = (run.ticket(cell) / name for name in (MASK_FILE, WEIGHTS_FILE, SURGERY_FILE))
    whole = run.dense(cell.seed) / WEIGHTS_FILE
    if is_whole(run.ticket(cell) / TICKET_FILE):
        check_folder(run.ticket(cell), only=(mask.name, surgery.name))
    if mask.exists():
        counts = count_mask(mask)
    elif surgery.exists() and model.exists() and whole.exists():
        counts = count_matrices(model, whole, surgery)
    else:
        return None
    return {name: kept / size for name, (kept, size) in by_layer(counts).items()}


def _panel(target: float, columns: Sequence[_Column]) -> Panel:
    """The parts of the model above its layers, a column a method."""
    parts = sorted({part for column in columns for part in column.parts}, key=PARTS.index)
    layers = sorted({layer for column in columns for layer in column.layers}, key=_order)
    rows: list[tuple[str, list[float | None]]] = [(part, [each.parts.get(part) for each in columns]) for part in parts]
    rows += [(_words(layer, layers), [each.layers.get(layer) for each in columns]) for layer in layers]
    chart = heat_map(
        rows,
        [column.slot for column in columns],
        width=WIDTH,
        name_width=NAME_WIDTH,
        breaks=_breaks(parts, layers),
        description=f"Share of the weights that stays in each part and layer, in percent, at {short_percent(target)} % "
        f"sparsity: {_in_words(columns)}",
        titles=[column.label for column in columns],
    )
    return Panel(f"{short_percent(target)} % sparsity", "of 100 weights stay", chart)


def _in_words(columns: Sequence[_Column]) -> str:
    """The parts of each column, for who cannot see the drawing."""
    told = []
    for column in columns:
        shares = ", ".join(f"{part} {percent(share, 0)}" for part, share in column.parts.items())
        told.append(f"{column.label}: {shares}" if shares else column.label)
    return "; ".join(told)


def _breaks(parts: Sequence[str], layers: Sequence[str]) -> list[int]:
    """The rows before which a gap stands: the first of the layers, and of each stack of them."""
    stacks = [layer.split(" ")[0] for layer in layers]
    changes = [number for number in range(1, len(stacks)) if stacks[number] != stacks[number - 1]]
    starts = [0] * bool(parts and layers) + changes
    return [len(parts) + number for number in starts]


def _absent_words(missing: Sequence[str]) -> str | None:
    if not missing:
        return None
    if len(missing) == 1:
        return f"The ticket {missing[0]} is not in the run folder, so what its layers keep is not known."
    return (
        f"{len(missing)} tickets are not in the run folder, {missing[0]} first, so what their layers keep is not known."
    )


def _layer(name: str) -> str:
    found = NUMBERED.match(name)
    return f"{found[2]} {found[3]}" if found else (name.split(".")[-3:] or [name])[0]


def _order(layer: str) -> tuple[int, str, int]:
    """Stacks as they come in an answer, and layers by their number."""
    stack, _, number = layer.partition(" ")
    place = list(LXMERT).index(stack) if stack in LXMERT else len(LXMERT)
    return place, stack, int(number or 0)


def _words(layer: str, layers: Sequence[str]) -> str:
    """A layer as its reader calls it, if the model is LXMERT; else by the model's own name."""
    stack, _, number = layer.partition(" ")
    if not any(each.startswith("x_layers ") for each in layers) or stack not in LXMERT:
        return layer
    return f"{LXMERT[stack]} {number}" if stack.endswith(("layer", "layers")) else LXMERT[stack]


def _sizes(path: Path) -> dict[str, int]:
    """Matrix -> its number of weights, from the file's header. Raises TicketError."""
    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise TicketError(f"{path}: cannot be read ({error}); draw the ticket again, or copy it anew") from None
    return {name: math.prod(shape) for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2}


def _dropped_layers(surgery: Path) -> dict[str, list[int]]:
    """Stack -> the layers of it that stay, of those stacks that lost some. Raises TicketError."""
    try:
        cuts = parse_json(read_text(surgery))["cuts"]
        return {cut["name"]: _places(cut["keep"]) for cut in cuts if cut["kind"] == "layer"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TicketError(f"{surgery}: cannot be read ({error}); draw the ticket again, or copy it anew") from None


def _places(text: str) -> list[int]:
    """0-2 5 as 0, 1, 2 and 5."""
    ends = [run.partition("-") for run in text.split()]
    runs = [range(int(low), int(high or low) + 1) for low, _, high in ends]
    if sum(map(len, runs)) > MOST_LAYERS:
        raise ValueError(f"it keeps more than {MOST_LAYERS:,} layers of a stack")
    return [place for run in runs for place in run]


def _rename(name: str, stays: Mapping[str, list[int]]) -> str | None:
    """What a tensor is called once layers before it are gone; None where it is of one that is gone."""
    for stack, kept in stays.items():
        if name.startswith(f"{stack}."):
            number, _, rest = name.removeprefix(f"{stack}.").partition(".")
            return f"{stack}.{kept.index(int(number))}.{rest}" if int(number) in kept else None
    return name
