"""The input and the result of a format's writer, and the checks of a user's options before an export starts."""

from __future__ import annotations

import re
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
from lxcompress.shapes import FixedShape
from lxcompress.text import shorten

if TYPE_CHECKING:  # names and precisions are checked before torch is imported
    from lxcompress.data.split import Inputs
    from lxcompress.models.checkpoints import Model
    from lxcompress.tickets import Ticket

Feeds = Mapping[str, np.ndarray]
"""{name of an input: array}, for one batch of questions, as `lxcompress.runtimes.Session.answer` takes them."""
Layouts = Literal["measured", "table"]
"""How the engine's layouts are chosen: by times measured on this machine, or by a table of thresholds.

The table gives the same file on every machine.
"""
LAYOUTS: tuple[str, ...] = get_args(Layouts)
OLDEST_OPSET, NEWEST_OPSET = 17, 25
"""The range of ONNX opsets that torch's exporter writes; the oldest is the first that has LayerNormalization."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export that a user can choose.

    If `precision` is None, the format's default is written. `twin` is the role of the file among the twins of a ticket.
    `fuse` and `opset` are for ONNX, `layouts` is for the engine. `fp32` is the folder of an artifact of the same model
    in fp32, exported with the same options. The ONNX formats make fp16 and int8 from that file, without a second trace.
    `fixed` is the one shape of questions that the file takes; None for any shape.
    """

    format: str
    precision: str | None = None
    twin: str | None = None
    fuse: bool = True
    opset: int | None = None
    layouts: str | None = None
    fp32: Path | None = None
    fixed: FixedShape | None = None

    def check(self, family: str | None = None) -> ExportOptions:
        """Return the options with every default filled in. Raises ExportError for an option that cannot be used.

        `family` is the family of the model, or None while it is not known.
        """
        precision = check_format(self.format, self.precision)
        if family is not None:
            check_family(self.format, family)
        check_opset(self.opset)
        check_fixed(self.format, self.fixed)
        layouts = check_layouts(self.format, self.layouts)
        return replace(self, precision=precision, layouts=layouts)


@dataclass(frozen=True)
class Job:
    """The input of a writer: the model, and how and where to write it.

    `model` is in evaluation mode. `example` has at least two questions. `calibration` returns batches of training
    questions, or seeded random ones where no data are known. `precision`, `fuse`, `opset`, `fp32`, `layouts` and
    `fixed` are those of ExportOptions. No question in `example` and `calibration` is larger than `fixed`, but some are
    smaller.
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
    fixed: FixedShape | None = None
    progress: Progress = no_progress


@dataclass(frozen=True)
class WrittenFiles:
    """The result of a writer: its files, all in the artifact's folder, and notes for the user about the files."""

    files: Sequence[Path]
    notes: Sequence[str] = ()
    positions: int | None = None
    """the number of tokens of the longest question that the file takes, if the model itself takes longer ones"""
    layouts: Layouts | None = None
    """how the layouts of matrices were chosen; None for a format without layouts"""


@dataclass(frozen=True)
class Writer:
    """The functions of a format: `write` writes a model, `count_zeros` counts the zeros in the written files."""

    write: Callable[[Job], WrittenFiles]
    """raises ExportError"""
    count_zeros: Callable[[Path], tuple[int, int]]
    """returns the number of zeros, and of all elements, in the prunable matrices of the files in a folder"""


def check_format(format: str, precision: str | None) -> str:
    """Return the precision that is written: `precision`, or the format's default if it is None.

    Raises ExportError for an unknown format, or a precision that the format does not support.
    """
    if not is_format(format):
        raise ExportError(f"--format {format}: is unknown; {_list_choices(format, format_names())}")
    known = find_format(format).precisions
    if precision is not None and precision not in known:
        choices = _list_choices(precision, known)
        raise ExportError(f"--precision {precision}: format {format} does not support it; {choices}")
    return precision or known[0]


def check_precision(precision: str) -> None:
    """Raise ExportError if no format supports the precision."""
    known = tuple(dict.fromkeys(name for spec in all_formats() for name in spec.precisions))
    if precision not in known:
        raise ExportError(f"--precision {precision}: no format supports it; {_list_choices(precision, known)}")


def check_family(format: str, family: str) -> None:
    """Raise ExportError if the format's converter cannot read models of this family."""
    families = find_format(format).families
    if families is not None and family not in families:
        raise ExportError(
            f"format {format}: supports only {' and '.join(families)} models, and this is a {family} model; "
            "give --format executorch or onnx, which run on Apple's systems too"
        )


def _list_choices(name: str, known: Sequence[str]) -> str:
    """Return a clause for an error: the name in `known` that is most like `name`, and all names in `known`."""
    near = nearest(name, known)
    choices = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]
    return f"{f'did you mean {near}? ' if near else ''}give {choices}"


def check_opset(opset: int | None) -> None:
    """Raise ExportError for an ONNX opset that torch cannot write; None is accepted."""
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"--opset {opset}: is not supported; give {OLDEST_OPSET} to {NEWEST_OPSET}, or leave it out")


def check_layouts(format: str, layouts: str | None) -> Layouts:
    """Return how layouts are chosen: `layouts`, or "measured" if it is None.

    Raises ExportError for an unknown word, or for a format without layouts.
    """
    if layouts is None:
        return "measured"
    if format != "engine":
        raise ExportError(f"--layouts {layouts}: is for format engine, but the format is {format}; leave it out")
    if layouts not in LAYOUTS:
        raise ExportError(f"--layouts {layouts}: is unknown; give {' or '.join(LAYOUTS)}")
    return "table" if layouts == "table" else "measured"


def parse_fixed(text: str) -> FixedShape:
    """Return the shape that a user names, such as 20x36: tokens x regions. Raises ExportError for other text."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text.strip().lower(), re.ASCII)
    if found is None:
        raise ExportError(
            f"--fixed {shorten(text)}: expected tokens x regions, each 1 or more; give 20x36, for example"
        )
    return FixedShape(int(found[1]), int(found[2]))


def check_fixed(format: str, fixed: FixedShape | None) -> None:
    """Raise ExportError if a shape is given for a format whose files take questions of any shape only."""
    if fixed is not None and not find_format(format).fixes_shapes:
        known = [spec.name for spec in all_formats() if spec.fixes_shapes]
        raise ExportError(
            f"--fixed {fixed}: format {format} has no fixed shapes; leave it out, or give --format "
            f"{', '.join(known[:-1])} or {known[-1]}"
        )


def load_writer(format: str) -> Writer:
    """Import and return the functions of a format. Raises ExportError if a library that it needs is not installed."""
    spec = find_format(format)
    missing = spec.find_missing()
    if missing:
        raise ExportError(f"format {format}: {missing}")
    return Writer(resolve(spec.write), resolve(spec.count_zeros))


def name_artifact(source: str, format: str, precision: str | None, fixed: FixedShape | None = None) -> str:
    """Return the default folder name of an artifact: SOURCE-FORMAT, SOURCE-FORMAT-PRECISION or SOURCE-FORMAT-20x36.

    The precision is part of the name unless it is the format's default, and so is the shape if it is fixed.
    """
    is_default = precision in (None, default_precision(format))
    parts = [source, format, *([] if is_default else [precision]), *([fixed] if fixed else [])]
    return "-".join(map(str, parts))


def default_precision(format: str) -> str:
    """Return the precision that an export writes if none is given."""
    return find_format(format).precisions[0]
