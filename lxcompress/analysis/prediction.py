"""Predict the files that a ticket could be exported as, and the size of each file before it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.summary import RunSummary
from lxcompress.catalog.formats import all_formats, find_format, stores_zeros
from lxcompress.catalog.runtimes import list_serving
from lxcompress.exporters.advice import VALUE_BYTES, Sizes, file_bytes
from lxcompress.exporters.formats import name_artifact
from lxcompress.filenames import MASK_FILE, WEIGHTS_FILE
from lxcompress.output import command_line
from lxcompress.recipe import STRUCTURED
from lxcompress.records import Result
from lxcompress.rundir import RunDir

PRECISIONS = ("int8", "fp16", "bf16", "fp32")


@dataclass(frozen=True)
class Prediction:
    """A file that could be exported. `missing` says what must be installed first; None if nothing is missing.

    `size_mb` is the predicted size; None if it cannot be predicted. `sibling` is a measured file that takes as much
    time and memory: it has the same runtime, precision and number of weights.
    """

    cell: str
    ticket: Path
    folder: Path
    format: str
    precision: str
    size_mb: float | None
    missing: str | None
    sibling: ExportedArtifact | None

    @property
    def name(self) -> str:
        """The format and the precision of the file, such as "onnx int8"."""
        return f"{self.format} {self.precision}"

    @property
    def command(self) -> str:
        """The command that exports the file."""
        return command_line("export", self.ticket, "--format", self.format, "--precision", self.precision)


def predict_files(summary: RunSummary, result: Result, ticket: Path) -> list[Prediction]:
    """Return the files that the ticket of `result` could be exported as, if a runtime on this machine can run them.

    The files in the recipe's export format come first. Files that are exported already are left out.
    """
    exported = [found.artifact for found in summary.artifacts if found.artifact.cell == result.cell]
    there = {(artifact.format, artifact.precision) for artifact in exported}
    usual = summary.recipe.export.format
    offered = sorted((spec for spec in all_formats() if spec.is_shippable), key=lambda spec: _loads_dense(spec.name))
    formats = [find_format(usual), *(spec for spec in offered if spec.name != usual)]
    pairs = [(spec, precision) for spec in formats for precision in PRECISIONS if precision in spec.precisions]
    return [
        Prediction(
            cell=result.cell,
            ticket=ticket,
            folder=RunDir(summary.root).artifacts / name_artifact(result.cell, spec.name, precision),
            format=spec.name,
            precision=precision,
            size_mb=_size_mb(summary, result, ticket, spec.name, precision),
            missing=summary.missing_libraries[spec.name],
            sibling=_find_sibling(summary.artifacts, result, spec.name, precision),
        )
        for spec, precision in pairs
        if list_serving(spec.name) and (spec.name, precision) not in there
    ]


def _loads_dense(format: str) -> bool:
    """Return whether files of a format become dense when they are loaded.

    Such files are small on disk only, so they come last.
    """
    return format == "bitmask"


def _size_mb(summary: RunSummary, result: Result, ticket: Path, format: str, precision: str) -> float | None:
    """Return the predicted size of a file in MB; None if it cannot be predicted.

    The size is that of the ticket's tensors, plus what a file of the same format and precision has besides its tensors
    (graph, names, scales). Without the shapes of the tensors, the size of that other file is scaled by the number of
    weights.
    """
    is_dense = result.granularity in STRUCTURED or stores_zeros(format, precision)
    removed = 0.0 if is_dense else 1 - result.sparsity.kept / _count_maskable(result, ticket)
    own = _tensor_mb(ticket, result.parameters, removed, format, precision)
    like = _nearest(summary.artifacts, result, format, precision) if is_dense else None
    if like is None:
        return own
    other = _tensor_mb(_source_of(summary, like), like.artifact.parameters, 0.0, format, precision)
    if own is not None and other is not None:
        return own + max(0.0, like.size_mb - other)
    known = result.parameters and like.artifact.parameters
    return like.size_mb * (result.parameters or 0) / (like.artifact.parameters or 1) if known else None


def _count_maskable(result: Result, ticket: Path) -> int:
    """Return how many weights the ticket's mask covers: all prunable ones, or those of a compound's smaller model."""
    sizes = _read_sizes(ticket) if result.method.get("first") else None
    if sizes is None:
        return result.sparsity.prunable
    return sum(math.prod(sizes.shapes[name]) for name in sizes.prunable)


def _tensor_mb(folder: Path, parameters: int | None, removed: float, format: str, precision: str) -> float | None:
    """Return the size of a model's tensors in a file, in MB; None if the shapes in `folder` cannot be read.

    `parameters` is the number of weights that an answer depends on: the others are not exported. `removed` is the
    fraction (0-1) of prunable weights whose zeros the format does not store.
    """
    sizes = _read_sizes(folder)
    if sizes is None:
        return None
    dead = max(0, sizes.weights - parameters) if parameters else 0
    return (file_bytes(sizes, removed, format=format, precision=precision) - dead * VALUE_BYTES[precision]) / 1e6


def _source_of(summary: RunSummary, exported: ExportedArtifact) -> Path:
    """Return the folder of the dense model or the ticket that an artifact was exported from."""
    run, cell = RunDir(summary.root), exported.artifact.cell
    if cell is None:
        return run.dense(exported.artifact.seed or 0)
    folders = [run.root / part.drawn / cell for part in (run, run.twins)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _nearest(
    artifacts: Sequence[ExportedArtifact], result: Result, format: str, precision: str
) -> ExportedArtifact | None:
    """Return the artifact of a format and precision whose number of weights is nearest to that of `result`, or None."""
    like = [found for found in artifacts if (found.artifact.format, found.artifact.precision) == (format, precision)]
    known = [found for found in like if found.artifact.parameters]
    return min(known, key=lambda found: abs((found.artifact.parameters or 0) - (result.parameters or 0)), default=None)


def _find_sibling(
    artifacts: Sequence[ExportedArtifact], result: Result, format: str, precision: str
) -> ExportedArtifact | None:
    """Return a measured artifact that takes as much time in the same runtime; None if there is none.

    A runtime that multiplies zeros too takes the same time for two models with equally many weights.
    """
    if not stores_zeros(format, precision) or result.parameters is None:
        return None
    for exported in artifacts:
        artifact, measured = exported.artifact, exported.fresh
        stores = stores_zeros(artifact.format, artifact.precision)
        is_like = (artifact.precision, artifact.parameters) == (precision, result.parameters) and stores
        if is_like and measured is not None and measured.task.runtime in list_serving(format)[:1]:
            return exported
    return None


def _read_sizes(ticket: Path) -> Sizes | None:
    """Return the shapes of a ticket's tensors, from the headers of its files; None if the headers cannot be read."""
    try:
        with safe_open(ticket / WEIGHTS_FILE, framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
        prunable = _read_prunable(ticket / MASK_FILE) if (ticket / MASK_FILE).is_file() else None
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    matrices = (name for name, shape in shapes.items() if len(shape) == 2 and ".embeddings." not in name)
    chosen = frozenset(matrices if prunable is None else prunable)
    return Sizes(str(ticket), shapes, chosen) if chosen <= shapes.keys() else None


def _read_prunable(mask: Path) -> list[str]:
    """Return the names of the matrices that a mask covers."""
    with safe_open(mask, framework="np") as file:
        return list(json.loads((file.metadata() or {}).get("shapes", "{}")))
