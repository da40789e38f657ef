"""Export a ticket or a model: first check what can be checked quickly, then write the file and check its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.progress import no_progress

if TYPE_CHECKING:
    from lxcompress.progress import Progress
    from lxcompress.recipe import Recipe
    from lxcompress.records import Artifact


@dataclass(frozen=True)
class ExportRequest:
    """The ticket or model to export, and the settings of the file to write.

    `fuse` and `opset` are for ONNX formats, and `layouts` is for the engine, as in exporters.formats.ExportOptions.
    `fixed` is the one shape of questions that the file takes, tokens x regions, such as 20x36.
    """

    source: Path
    format: str = "onnx"
    precision: str | None = None
    """The precision of the file; None is the default of the format."""
    out: Path | None = None
    """The folder to write; None is RUN/artifacts/NAME."""
    recipe: Recipe | None = None
    """The recipe whose validation questions are answered to compare the file with its source."""
    fuse: bool = True
    opset: int | None = None
    layouts: str | None = None
    fixed: str | None = None


def check_request(request: ExportRequest, *, others: Sequence[Path] = ()) -> None:
    """Raise LxError for an unknown format, precision or shape, and for a path that cannot be read or written.

    `others` are further inputs that must not be overwritten: the recipe's file, and the models that the ticket is
    compared with.
    """
    from lxcompress.exporters.formats import check_fixed, check_format, parse_fixed
    from lxcompress.recipe import input_paths
    from lxcompress.workflow.checks import check_ticket
    from lxcompress.writing import check_out

    check_format(request.format, request.precision)
    check_fixed(request.format, None if request.fixed is None else parse_fixed(request.fixed))
    check_ticket(request.source)
    if request.out is not None:
        inputs = input_paths(request.recipe) if request.recipe else []
        check_out(request.out, [request.source, *others, *inputs], kind="folder")


def export_file(request: ExportRequest, *, progress: Progress = no_progress) -> tuple[Path, Artifact]:
    """Write the file and compare its answers with those of its source; return its folder and its record.

    Raises ExportError.
    """
    from lxcompress.exporters import artifact
    from lxcompress.exporters.formats import ExportOptions, parse_fixed

    fixed = None if request.fixed is None else parse_fixed(request.fixed)
    folder = request.out or artifact.default_out(request.source, request.format, request.precision, fixed)
    source = artifact.open_source(request.source, request.recipe)
    options = ExportOptions(
        request.format,
        request.precision,
        fuse=request.fuse,
        opset=request.opset,
        layouts=request.layouts,
        fixed=fixed,
    )
    made = artifact.export(source, folder, options, progress=progress)
    return folder, made
