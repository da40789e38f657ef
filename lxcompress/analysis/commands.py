"""The commands that a message or report tells the user to run next, as text to copy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lxcompress.analysis.alternatives import DENSE_INT8, CandidateFile
from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.prediction import Prediction
from lxcompress.catalog.runtimes import list_serving
from lxcompress.exporters.formats import default_precision
from lxcompress.output import command_line


def export_commands(ticket: Path) -> tuple[str, str]:
    """Return the command that exports a ticket as ONNX, and the command that measures the exported file."""
    folder = ticket.parent.parent / "artifacts" / f"{ticket.name}-onnx"
    return f"lxcompress export {_quoted(ticket)} --onnx --out {_quoted(folder)}", bench_command(folder)


def bench_command(*folders: Path) -> str:
    """Return the command that measures the artifacts in `folders` in one bench."""
    return f"lxcompress bench {' '.join(map(_quoted, folders))}"


def bench_all_command(root: Path) -> str:
    """Return the command that measures all artifacts of the run folder `root` in one bench."""
    return f"lxcompress bench {_quoted(root)}/artifacts/*"


def reliability_command(root: Path) -> str:
    """Return the command that measures the reliability of all models and artifacts of the run folder `root`."""
    return command_line("reliability", root)


def twins_command(root: Path, cell: str) -> str:
    """Return the command that exports the ticket of `cell` in the run folder `root` with its alternatives."""
    return command_line("export", root / "tickets" / cell, "--twins")


def format_twins_command(ticket: Path, format: str) -> str:
    """Return the command that exports a ticket and its alternatives, all in one format."""
    return f"lxcompress export {_quoted(ticket)} --twins --format {format}"


def next_commands(
    root: Path,
    ticket: Path,
    file: ExportedArtifact | Prediction | None,
    others: Sequence[CandidateFile],
) -> tuple[str, ...]:
    """Return the commands left to run before `file` of `ticket` can be shipped; none if it is exported and measured.

    `others` are the files that `file` is compared with. `file` is None if the ticket has neither an artifact nor a
    predicted file.
    """
    if file is None:
        return export_commands(ticket)
    if isinstance(file, Prediction):
        free = [other for other in others if (other.role, other.exported.artifact.format) == (DENSE_INT8, file.format)]
        if free or file.precision not in ("int8", default_precision(file.format)):
            return file.command, bench_command(file.folder, *(other.exported.folder for other in free))
        # One command exports the file and the files that it must be compared with.
        command = (
            f"lxcompress export {_quoted(ticket)} --twins"
            if file.format == "onnx"
            else (format_twins_command(ticket, file.format))
        )
        return command, bench_all_command(root)
    if file.fresh or not list_serving(file.artifact.format):
        return ()
    served = [other for other in others if list_serving(other.exported.artifact.format)]
    return (bench_command(file.folder, *(other.exported.folder for other in served if other.exported != file)),)


def _quoted(path: Path) -> str:
    return shlex.quote(path.as_posix())
