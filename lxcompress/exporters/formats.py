"""Formats: what can be exported, in which precisions, and by which file of this folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from lxcompress.errors import ExportError
from lxcompress.progress import Progress, no_progress
from lxcompress.settings import nearest

if TYPE_CHECKING:  # names and precisions are checked before torch is imported
    from lxcompress.data.split import Inputs
    from lxcompress.models.checkpoints import Model
    from lxcompress.tickets import Ticket

Feeds = Mapping[str, np.ndarray]
"""The inputs of some questions by name, as `lxcompress.runtimes.Session.answer` takes them."""
"""Hears what is done now, in a few words."""


Layouts = Literal["measured", "table"]
"""How the engine's layouts are chosen: by time on this machine, or by thresholds: the same bytes each time."""
LAYOUTS: tuple[str, ...] = get_args(Layouts)
OLDEST_OPSET, NEWEST_OPSET = 17, 25
"""ONNX's operators that torch's exporter writes: the oldest are the first with LayerNormalization."""


@dataclass(frozen=True)
class Job:
    """What a writer is given: `model` in evaluation mode, `example` of two questions or more, and where to write.

    `calibration` gives questions of the training data (seeded random ones where no data is known), as batches.
    `fuse` and `opset` concern ONNX alone, and so does `fp32`: the folder of an artifact of this source in fp32, made
    with the same settings, from which other precisions come without tracing the model again. `layouts` concerns the
    engine alone.
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
class Written:
    """What a writer made: its files, all within the artifact's folder, and what their reader should know.

    `layouts` says how the layouts of matrices were chosen, of a format that has several.
    """

    files: Sequence[Path]
    notes: Sequence[str] = ()
    positions: int | None = None
    """the tokens of the longest question, if the file takes fewer than the model"""
    layouts: Layouts | None = None


class Writer(Protocol):
    """What the file of a format offers."""

    def write(self, job: Job) -> Written:
        """Writes the artifact's files. Raises ExportError."""
        ...

    def count_zeros(self, out: Path) -> tuple[int, int]:
        """Zeros, and elements, of the prunable matrices in the files themselves."""
        ...


@dataclass(frozen=True)
class Format:
    """A format: its precisions (the first is the default), its file here, and the extra that its library comes with.

    `unserved` says why nothing here can run it; None where something can.
    """

    precisions: tuple[str, ...]
    module: str
    extra: str | None = None
    libraries: tuple[str, ...] = ()
    unserved: str | None = None
    families: tuple[str, ...] | None = None
    """the model families that its converter takes, if not all"""


FORMATS: Mapping[str, Format] = {
    "onnx": Format(("fp32", "fp16", "int8", "int8-static"), "onnx"),
    "ort": Format(("fp32", "fp16", "int8", "int8-static"), "ort"),
    "onnx-sparse": Format(("fp32", "fp16", "int8"), "onnx_sparse"),
    "bitmask": Format(("fp32", "fp16", "int8"), "bitmask"),
    "engine": Format(("fp32", "bf16", "int8"), "engine"),
    "transformers": Format(("fp32", "fp16"), "transformers"),
    "openvino": Format(("fp32", "fp16", "int8"), "openvino", "openvino", ("openvino", "nncf")),
    "executorch": Format(("fp32", "int8"), "executorch", "executorch", ("executorch",)),
    "coreml": Format(
        ("fp16", "fp32", "int8"),
        "coreml",
        "coreml",
        ("coremltools",),
        "Core ML predicts on Apple's systems only: its scores and its accuracy are not proven here",
        ("lxmert",),
    ),
}
"""Format -> what it is, in the order in which they are shown."""


def check_format(format: str, precision: str | None) -> str:
    """The precision that will be written. Raises ExportError if there is no such format or precision."""
    if format not in FORMATS:
        raise ExportError(f"--format {format}: is unknown; {_meant(format, list(FORMATS))}")
    known = FORMATS[format].precisions
    if precision is not None and precision not in known:
        raise ExportError(f"--precision {precision}: format {format} has none such; {_meant(precision, known)}")
    return precision or known[0]


def check_family(format: str, family: str) -> None:
    """Raises ExportError for a model family that the format's converter does not take, before anything is done."""
    families = FORMATS[format].families
    if families is not None and family not in families:
        raise ExportError(
            f"format {format}: takes {' and '.join(families)} models; its converter cannot read this {family} model; "
            "give --format executorch or onnx, which run on Apple's systems too"
        )


def _meant(name: str, known: Sequence[str]) -> str:
    """Name the one of `known` that is most like `name`, and all of them."""
    near = nearest(name, known)
    return f"{f'did you mean {near}? ' if near else ''}give {', '.join(known[:-1])} or {known[-1]}"


def check_opset(opset: int | None) -> None:
    """Raises ExportError for a version of ONNX's operators that no export can write."""
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"--opset {opset}: cannot be written; give {OLDEST_OPSET} to {NEWEST_OPSET}, or none")


def check_layouts(format: str, layouts: str | None) -> Layouts:
    """Returns how layouts are to be chosen. Raises ExportError for another word, and a format without layouts."""
    if layouts is None:
        return "measured"
    if format != "engine":
        raise ExportError(f"--layouts {layouts}: is of format engine, and {format} has no layouts; leave it out")
    if layouts not in LAYOUTS:
        raise ExportError(f"--layouts {layouts}: is unknown; give {' or '.join(LAYOUTS)}")
    return "table" if layouts == "table" else "measured"


def find_writer(format: str) -> Writer:
    """The writer of a format, its library imported. Raises ExportError if that is not installed."""
    missing = find_missing(format)
    if missing:
        raise ExportError(f"format {format}: {missing}")
    return import_module(f"lxcompress.exporters.{FORMATS[format].module}")  # type: ignore[return-value]


def find_missing(format: str) -> str | None:
    """Return what a format needs that is not installed, with the command that adds it; None if all is there."""
    known = FORMATS[format]
    missing = [name for name in known.libraries if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"needs {' and '.join(missing)}; add what it needs with: pip install 'lxcompress[{known.extra}]'"


def name_artifact(source: str, format: str, precision: str | None) -> str:
    """Return what the artifact of `source` is called: the precision is named unless it is the format's default."""
    is_usual = precision in (None, default_precision(format))
    return f"{source}-{format}" if is_usual else f"{source}-{format}-{precision}"


def default_precision(format: str) -> str:
    """What a format is written in unless another precision is asked for."""
    return FORMATS[format].precisions[0]
