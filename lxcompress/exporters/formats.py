"""What a writer of a format is given and gives back, and the checks of what is asked for before an export starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lxcompress.catalog.extensions import resolve
from lxcompress.catalog.formats import all_formats, find_format, format_names, is_format
from lxcompress.errors import ExportError
from lxcompress.progress import Progress, no_progress
from lxcompress.settings import nearest

if TYPE_CHECKING:  # names and precisions are checked before torch is imported
    from lxcompress.data.split import Inputs
    from lxcompress.models.checkpoints import Model
    from lxcompress.tickets import Ticket

Feeds = Mapping[str, np.ndarray]
"""The inputs of some questions by name, as `lxcompress.runtimes.Session.answer` takes them."""
Layouts = Literal["measured", "table"]
"""How the engine's layouts are chosen: by time on this machine, or by thresholds, which give the same bytes always."""
LAYOUTS: tuple[str, ...] = get_args(Layouts)
OLDEST_OPSET, NEWEST_OPSET = 17, 25
"""The ONNX opsets that torch's exporter writes; the oldest is the first that has LayerNormalization."""


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses for an export.

    Without `precision` the format's default is written. `twin` is the role of the file among the twins of a ticket.
    `fuse` and `opset` are for ONNX, `layouts` is for the engine. `fp32` is the folder of an artifact of the same model
    in fp32, exported with the same options: other precisions are then made from it, without a second trace.
    """

    format: str
    precision: str | None = None
    twin: str | None = None
    fuse: bool = True
    opset: int | None = None
    layouts: str | None = None
    fp32: Path | None = None

    def check(self, family: str | None = None) -> ExportOptions:
        """Return the options with every default filled in. Raises ExportError for one that cannot be used.

        `family` is the model's, where it is known.
        """
        precision = check_format(self.format, self.precision)
        if family is not None:
            check_family(self.format, family)
        check_opset(self.opset)
        layouts = check_layouts(self.format, self.layouts)
        return replace(self, precision=precision, layouts=layouts)


@dataclass(frozen=True)
class Job:
    """What a writer is given: `model` in evaluation mode, an `example` of at least two questions, and where to write.

    `calibration` yields batches of training questions, or seeded random ones where no data is known. `precision`,
    `fuse`, `opset`, `fp32` and `layouts` are those of ExportOptions.
    """

    model: Model
    example: Inputs
    precision: str
    out: Path
    source: Path
    ticket: Ticket | None
    calibration: Callable[[], Iterable[Feeds]]
    fuse: bool = True
    opset: int | None = None
    fp32: Path | None = None
    layouts: Layouts = "measured"
    progress: Progress = no_progress


@dataclass(frozen=True)
class WrittenFiles:
    """What a writer gives back: its files, all in the artifact's folder, and what a user should know about them."""

    files: Sequence[Path]
    notes: Sequence[str] = ()
    positions: int | None = None
    """the tokens of the longest question, if the file reads fewer than the model"""
    layouts: Layouts | None = None
    """how the layouts of matrices were chosen, if the format has several"""


@dataclass(frozen=True)
class Writer:
    """The functions of a format: one writes a model, one counts the zeros in what was written."""

    write: Callable[[Job], WrittenFiles]
    """raises ExportError"""
    count_zeros: Callable[[Path], tuple[int, int]]
    """returns the number of zeros, and of elements, in the prunable matrices of the files in a folder"""


def check_format(format: str, precision: str | None) -> str:
    """Return the precision that will be written. Raises ExportError if the format or the precision is unknown."""
    if not is_format(format):
        raise ExportError(f"--format {format}: is unknown; {_list_choices(format, format_names())}")
    known = find_format(format).precisions
    if precision is not None and precision not in known:
        choices = _list_choices(precision, known)
        raise ExportError(f"--precision {precision}: format {format} does not support it; {choices}")
    return precision or known[0]


def check_precision(precision: str) -> None:
    """Raise ExportError if no format has the precision."""
    known = tuple(dict.fromkeys(name for spec in all_formats() for name in spec.precisions))
    if precision not in known:
        raise ExportError(f"--precision {precision}: no format supports it; {_list_choices(precision, known)}")


def check_family(format: str, family: str) -> None:
    """Raise ExportError if the format's converter does not read models of the family."""
    families = find_format(format).families
    if families is not None and family not in families:
        raise ExportError(
            f"format {format}: takes {' and '.join(families)} models; its converter cannot read this {family} model; "
            "give --format executorch or onnx, which run on Apple's systems too"
        )


def _list_choices(name: str, known: Sequence[str]) -> str:
    """Return a clause that names the one of `known` that is most like `name`, and all of them."""
    near = nearest(name, known)
    choices = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]
    return f"{f'did you mean {near}? ' if near else ''}give {choices}"


def check_opset(opset: int | None) -> None:
    """Raise ExportError for an ONNX opset that no export can write."""
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"--opset {opset}: cannot be written; give {OLDEST_OPSET} to {NEWEST_OPSET}, or none")


def check_layouts(format: str, layouts: str | None) -> Layouts:
    """Return how layouts are to be chosen. Raises ExportError for an unknown word, or a format without layouts."""
    if layouts is None:
        return "measured"
    if format != "engine":
        raise ExportError(f"--layouts {layouts}: is for format engine, and {format} has no layouts; leave it out")
    if layouts not in LAYOUTS:
        raise ExportError(f"--layouts {layouts}: is unknown; give {' or '.join(LAYOUTS)}")
    return "table" if layouts == "table" else "measured"


def load_writer(format: str) -> Writer:
    """Import and return the functions of a format. Raises ExportError if a library that it needs is not installed."""
    spec = find_format(format)
    missing = spec.find_missing()
    if missing:
        raise ExportError(f"format {format}: {missing}")
    return Writer(resolve(spec.write), resolve(spec.count_zeros))


def name_artifact(source: str, format: str, precision: str | None) -> str:
    """Return the default folder name of an artifact of `source`; a precision is part of it if not the default."""
    is_default = precision in (None, default_precision(format))
    return f"{source}-{format}" if is_default else f"{source}-{format}-{precision}"


def default_precision(format: str) -> str:
    """Return the precision that an export writes if none is given."""
    return find_format(format).precisions[0]
