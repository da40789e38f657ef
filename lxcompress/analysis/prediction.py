"""Predictions: the files that a ticket could be exported as, and how large each will be, before it is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lxcompress.analysis.summary import ExportedArtifact, RunSummary
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
    """A file that is not there yet; `missing` says what must be installed before it can be made.

    `sibling` is a measured file that is served just as fast: the same runtime, precision and number of weights.
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
        return f"{self.format} {self.precision}"

    @property
    def command(self) -> str:
        """What makes the file."""
        return command_line("export", self.ticket, "--format", self.format, "--precision", self.precision)


def predict_files(summary: RunSummary, result: Result, ticket: Path) -> list[Prediction]:
    """Return the files that the ticket of `result` could be exported as on this machine and served by it.

    Those of the recipe's export format come first; what is exported already is left out.
    """
    there = {(each.artifact.format, each.artifact.precision) for each in _files_of(summary, result.cell)}
    usual = summary.recipe.export.format
    offered = sorted((spec for spec in all_formats() if spec.is_shippable), key=lambda spec: _loads_dense(spec.name))
    formats = [find_format(usual), *(spec for spec in offered if spec.name != usual)]
    pairs = [(spec, each) for spec in formats for each in PRECISIONS if each in spec.precisions]
    return [
        Prediction(
            cell=result.cell,
            ticket=ticket,
            folder=RunDir(summary.root).artifacts / name_artifact(result.cell, spec.name, precision),
            format=spec.name,
            precision=precision,
            size_mb=_size_mb(summary, result, ticket, spec.name, precision),
            missing=spec.find_missing(),
            sibling=_find_sibling(summary.costs, result, spec.name, precision),
        )
        for spec, precision in pairs
        if list_serving(spec.name) and (spec.name, precision) not in there
    ]


def _loads_dense(format: str) -> bool:
    """Whether files of a format are made dense when they are loaded: small on disk alone, so they come last."""
    return format == "bitmask"


def _files_of(summary: RunSummary, cell: str) -> list[ExportedArtifact]:
    return [cost for cost in summary.costs if cost.artifact.cell == cell]


def _size_mb(summary: RunSummary, result: Result, ticket: Path, format: str, precision: str) -> float | None:
    """Return the size of the file, in MB; None where neither the ticket's own tensors nor a file like it tell.

    A file of the same format and precision tells what comes to the tensors: the graph, the names, the scales.
    """
    is_dense = result.granularity in STRUCTURED or stores_zeros(format, precision)
    removed = 0.0 if is_dense else 1 - result.sparsity.kept / result.sparsity.prunable
    own = _tensor_mb(ticket, result.parameters, removed, format, precision)
    like = _nearest(summary.costs, result, format, precision) if is_dense else None
    if like is None:
        return own
    other = _tensor_mb(_source_of(summary, like), like.artifact.parameters, 0.0, format, precision)
    if own is not None and other is not None:
        return own + max(0.0, like.size_mb - other)
    known = result.parameters and like.artifact.parameters
    return like.size_mb * (result.parameters or 0) / (like.artifact.parameters or 1) if known else None


def _tensor_mb(folder: Path, parameters: int | None, removed: float, format: str, precision: str) -> float | None:
    """Return what the tensors of a model take in a file, in MB; None where its files do not tell their shapes.

    `parameters` are those that an answer depends on: others are not exported.
    """
    sizes = _read_sizes(folder)
    if sizes is None:
        return None
    dead = max(0, sizes.weights - parameters) if parameters else 0
    return (file_bytes(sizes, removed, format=format, precision=precision) - dead * VALUE_BYTES[precision]) / 1e6


def _source_of(summary: RunSummary, cost: ExportedArtifact) -> Path:
    """Return the folder of the run that an artifact was exported from."""
    run, cell = RunDir(summary.root), cost.artifact.cell
    if cell is None:
        return run.dense(cost.artifact.seed or 0)
    folders = [run.root / place.drawn / cell for place in (run, run.twins)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _nearest(costs: Sequence[ExportedArtifact], result: Result, format: str, precision: str) -> ExportedArtifact | None:
    """Return the file of that format and precision whose model has the most nearly as many weights."""
    like = [each for each in costs if (each.artifact.format, each.artifact.precision) == (format, precision)]
    known = [each for each in like if each.artifact.parameters]
    return min(known, key=lambda each: abs((each.artifact.parameters or 0) - (result.parameters or 0)), default=None)


def _find_sibling(
    costs: Sequence[ExportedArtifact], result: Result, format: str, precision: str
) -> ExportedArtifact | None:
    """Return a measured file that takes as long in the same runtime: where zeros are multiplied, weights count."""
    if not stores_zeros(format, precision) or result.parameters is None:
        return None
    for cost in costs:
        artifact, measured = cost.artifact, cost.fresh
        stores = stores_zeros(artifact.format, artifact.precision)
        is_like = (artifact.precision, artifact.parameters) == (precision, result.parameters) and stores
        if is_like and measured is not None and measured.task.runtime in list_serving(format)[:1]:
            return cost
    return None


def _read_sizes(ticket: Path) -> Sizes | None:
    """Return the tensors of a ticket by their shapes, from the headers of its files; None where they do not tell."""
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
    """Return the names of the matrices that a mask is of."""
    with safe_open(mask, framework="np") as file:
        return list(json.loads((file.metadata() or {}).get("shapes", "{}")))
