"""Export a ticket or a model: check everything that is cheap to check first, then write and compare the file."""

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
    """The ticket or model to export, and the file that is wanted."""

    source: Path
    format: str = "onnx"
    precision: str | None = None
    """The format's default if None."""
    out: Path | None = None
    """The folder to write; RUN/artifacts/NAME if None."""
    recipe: Recipe | None = None
    """The recipe whose validation questions compare the file with its source."""
    fuse: bool = True
    opset: int | None = None
    layouts: str | None = None


def check_request(request: ExportRequest, *, others: Sequence[Path] = ()) -> None:
    """Raise LxError for an unknown format or precision, and for paths that cannot be read or written.

    `others` are inputs too: the recipe's file, and models that the ticket is compared with.
    """
    from lxcompress.exporters.formats import check_format
    from lxcompress.recipe import input_paths
    from lxcompress.workflow.checks import check_ticket
    from lxcompress.writing import check_out

    check_format(request.format, request.precision)
    check_ticket(request.source)
    if request.out is not None:
        inputs = input_paths(request.recipe) if request.recipe else []
        check_out(request.out, [request.source, *others, *inputs], kind="folder")


def export_file(request: ExportRequest, *, progress: Progress = no_progress) -> tuple[Path, Artifact]:
    """Write the file and compare it with its source; return its folder and its record. Raises ExportError."""
    from lxcompress.exporters import artifact
    from lxcompress.exporters.formats import ExportOptions

    folder = request.out or artifact.default_out(request.source, request.format, request.precision)
    source = artifact.open_source(request.source, request.recipe)
    options = ExportOptions(
        request.format, request.precision, fuse=request.fuse, opset=request.opset, layouts=request.layouts
    )
    made = artifact.export(source, folder, options, progress=progress)
    return folder, made
