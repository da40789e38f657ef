"""`lxcompress export`: a ticket becomes a file to ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.cli.complete import complete_format, complete_precision, complete_recipe

if TYPE_CHECKING:
    from lxcompress.records import Artifact


def export_cli(
    ticket: Path = typer.Argument(help="A ticket, or a transformers folder such as RUN/seeds/0/dense."),
    onnx: bool = typer.Option(False, "--onnx", help="Short for --format onnx."),
    format: str | None = typer.Option(
        None,
        "--format",
        help="onnx, ort, onnx-sparse, bitmask, transformers, openvino, executorch, coreml or engine.",
        autocompletion=complete_format,
    ),
    precision: str | None = typer.Option(
        None,
        "--precision",
        help="fp32, fp16, int8, int8-static (ONNX) or bf16 (engine).  [default: fp32; Core ML's is fp16]",
        autocompletion=complete_precision,
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder to write; in a run, RUN/artifacts/NAME by default."),
    recipe: Path | None = typer.Option(
        None, "--recipe", help="Recipe whose validation data proves the file.", autocompletion=complete_recipe
    ),
    opset: int | None = typer.Option(
        None, "--opset", min=17, max=25, help="ONNX opset, where a device's runtime is an older one."
    ),
    layouts: str | None = typer.Option(
        None,
        "--layouts",
        help="engine: measured (fastest on this machine) or table (the same bytes each time).  [default: measured]",
    ),
    no_fuse: bool = typer.Option(
        False, "--no-fuse", help="Plain ONNX operators alone: fused ones are understood by ONNX Runtime only."
    ),
    twins: bool = typer.Option(
        False, "--twins", help="The ticket beside its alternatives: dense, dense int8, its own int8, a structured one."
    ),
    dense: Path | None = typer.Option(
        None, "--dense", help="For --twins: the dense model of the ticket; in a run folder it is known."
    ),
    structured: Path | None = typer.Option(
        None, "--structured", help="For --twins: a structured ticket of equal size; in a run folder its own is found."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Export a ticket, and prove that the file answers as the ticket does.

    \b
    Example: lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --onnx
    Or:      lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --format bitmask --precision int8
    Or:      lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --twins
    """
    if not twins and (dense or structured):
        raise typer.BadParameter("--dense and --structured name twins: give --twins beside them")
    if twins and (precision or opset is not None or no_fuse or layouts):
        raise typer.BadParameter("--twins has its precisions and exports by default settings: give --format alone")
    if onnx and format not in (None, "onnx"):
        raise typer.BadParameter(f"--onnx and --format {format} contradict each other; give one of them")
    if not onnx and format is None and not twins:
        raise typer.BadParameter("give a format: --onnx, or --format FORMAT")
    chosen = format or "onnx"
    if not chosen.startswith("on") and chosen != "ort" and (opset is not None or no_fuse):
        raise typer.BadParameter(f"--opset and --no-fuse are of ONNX; format {chosen} knows neither")
    if layouts is not None and (chosen != "engine" or layouts not in ("measured", "table")):
        raise typer.BadParameter(f"--layouts {layouts}: give measured or table, with --format engine")

    from lxcompress.cli.early import check_paths, check_ticket
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document
    from lxcompress.errors import ExportError
    from lxcompress.exporters.formats import check_format
    from lxcompress.recipe import input_paths, load_recipe
    from lxcompress.writing import check_out

    precision = check_format(chosen, precision)
    check_ticket(ticket)
    check_paths([path for path in (dense, structured) if path], what="give a model or a ticket", kind=ExportError)
    known = load_recipe(recipe) if recipe else None
    if out is not None:
        check_out(out, [ticket, dense, structured, recipe, *(input_paths(known) if known else [])], kind="folder")
    if twins:
        from lxcompress.cli.twins import export_and_show, twins_json

        with json_document(wanted=as_json) as emit:
            done = export_and_show(ticket, format=chosen, dense=dense, other=structured, out=out, recipe=known)
            emit(twins_json(done))
        return

    with json_document(wanted=as_json) as emit, working(f"reading {ticket}") as progress:
        from lxcompress.exporters import artifact

        folder = out or artifact.default_out(ticket, chosen, precision)
        source = artifact.open_source(ticket, known)
        made = artifact.export(
            source,
            folder,
            format=chosen,
            precision=precision,
            fuse=not no_fuse,
            opset=opset,
            layouts=layouts,
            progress=progress,
        )
        emit({"folder": str(folder), **made.model_dump(mode="json")})
    if not as_json:
        _show(folder, made)
    show_stale([folder])


def show_stale(folders: Sequence[Path]) -> None:
    """Says of which artifacts what was measured before is out of date; nothing where none is."""
    from lxcompress.cli.screen import remarks
    from lxcompress.exporters.twins import bench_command
    from lxcompress.measure.bench_paths import find_stale

    stale = find_stale(folders)
    if stale:
        what = "its measurement is of an earlier file" if len(folders) == 1 else "measurements are of earlier files"
        words = f"stale     {what}, and no longer used; measure again with: {bench_command(stale)}"
        remarks.print(words, style="yellow", markup=False, soft_wrap=True)


def _show(folder: Path, made: Artifact) -> None:
    """What was written, and how true it is to its source."""
    from rich.markup import escape

    from lxcompress.cli.screen import out as screen
    from lxcompress.output import command_line
    from lxcompress.units import percent, size_text

    def line(name: str, words: str) -> None:
        screen.print(f"{name:<9} {escape(words)}")

    screen.print(
        f"[bold]{escape(str(folder))}[/bold]  {size_text(made.size_bytes)}, {made.precision}, {len(made.files)} files",
        soft_wrap=True,
    )
    parity = made.parity
    if parity:
        allowed = f" (allowed {parity.tolerance:.2g})" if parity.tolerance is not None else ""
        line(
            "parity",
            f"scores differ by at most {parity.max_abs_difference:.2g}{allowed}, "
            f"{parity.changed_answers} of {parity.questions} answers changed; on {parity.inputs}",
        )
    else:
        line("parity", made.unproven or "not known")
    if made.accuracy:
        beside = f", the ticket's {percent(made.source_accuracy.accuracy)} %" if made.source_accuracy else ""
        line("accuracy", f"{percent(made.accuracy.accuracy)} % of the exported file{beside}")
    cost = "" if made.format in _SPARSE else "; a dense format stores them like any other value"
    line("zeros", f"{percent(made.prunable_zeros or 0, 1)} % of the prunable weights, counted in the file{cost}")
    for doubt in made.doubts:
        screen.print(f"[bold yellow]warning[/]   {escape(doubt)}", soft_wrap=True)
    for note in made.notes:
        line("note", note)
    if made.parity:
        screen.print(f"next      {command_line('bench', folder)}", markup=False, soft_wrap=True)


_SPARSE = ("onnx-sparse", "bitmask", "coreml", "engine")
"""Formats that leave zeros out."""
