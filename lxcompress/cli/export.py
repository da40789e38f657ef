"""`lxcompress export`: write a ticket as a file to ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.catalog.formats import FORMATS, find_format, is_format, stores_zeros
from lxcompress.cli.complete import complete_format, complete_precision, complete_recipe
from lxcompress.cli.export_extractor import ExtractorRequest, export_extractor_and_show

if TYPE_CHECKING:
    from lxcompress.records import Artifact
    from lxcompress.workflow.export import ExportRequest
    from lxcompress.workflow.twins import TwinSources


def export_cli(
    ticket: Path | None = typer.Argument(None, help="A ticket, or a transformers folder such as RUN/seeds/0/dense."),
    onnx: bool = typer.Option(False, "--onnx", help="Short for --format onnx."),
    format: str | None = typer.Option(
        None,
        "--format",
        help=f"{', '.join(FORMATS)}, or one that another package adds.",
        autocompletion=complete_format,
    ),
    precision: str | None = typer.Option(
        None,
        "--precision",
        help="fp32, fp16, int8, int8-static and int4 (ONNX) or bf16 (engine).  [default: fp32; Core ML's is fp16]",
        autocompletion=complete_precision,
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder to write.  [default: in a run, RUN/artifacts/NAME]"),
    recipe: Path | None = typer.Option(
        None, "--recipe", help="Recipe whose validation questions check the file.", autocompletion=complete_recipe
    ),
    opset: int | None = typer.Option(
        None, "--opset", min=17, max=25, help="ONNX opset, for a device with an older runtime."
    ),
    layouts: str | None = typer.Option(
        None,
        "--layouts",
        help="engine: measured (fastest on this machine) or table (same bytes on every export).  [default: measured]",
    ),
    fixed: str | None = typer.Option(
        None,
        "--fixed",
        help="Tokens x regions, such as 20x36: memory is planned for that shape, and smaller questions are padded.",
    ),
    no_fuse: bool = typer.Option(
        False, "--no-fuse", help="Write only standard ONNX operators; ONNX Runtime alone can run fused ones."
    ),
    twins: bool = typer.Option(
        False, "--twins", help="Export the ticket and its alternatives: dense and structured, each also in int8."
    ),
    dense: Path | None = typer.Option(
        None, "--dense", help="For --twins: the ticket's dense model; found in a run folder."
    ),
    structured: Path | None = typer.Option(
        None, "--structured", help="For --twins: a structured ticket of equal size; found in a run folder."
    ),
    int4: bool = typer.Option(False, "--int4", help="For --twins: the dense model in int4 too."),
    extractor: str | None = typer.Option(
        None, "--extractor", help="Export an extractor of photographs instead, such as grid-efficientnet-lite0."
    ),
    grid: int | None = typer.Option(None, "--grid", help="For --extractor: cells on a side.  [default: 6]"),
    prune: float = typer.Option(
        0.0, "--prune", min=0, max=0.95, help="For --extractor: fraction of its 1 x 1 convolutions to remove."
    ),
    photos: Path | None = typer.Option(
        None, "--photos", help="For --extractor in 8 bits: folder of photographs to calibrate and compare with."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Export a ticket, and check that the file gives the same answers.

    \b
    Example: lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --onnx
    Or:      lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --format bitmask --precision int8
    Or:      lxcompress export runs/quickstart/tickets/low-magnitude-weight-70-seed0 --twins
    """
    chosen = _choose_format(format, is_onnx=onnx, is_twins=twins)
    if extractor is not None:
        if ticket or twins or recipe or fixed or layouts or out is None:
            raise typer.BadParameter(
                "--extractor is exported alone, to --out DIR; give only --format, --precision, --grid, --prune and "
                "--photos"
            )
        request = ExtractorRequest(extractor, grid, chosen, out, prune, precision or "fp32", photos)
        export_extractor_and_show(request, as_json=as_json)
        return
    if ticket is None:
        raise typer.BadParameter("give a ticket or a model, or --extractor NAME")
    if grid is not None or prune or photos is not None:
        raise typer.BadParameter("--grid, --prune and --photos are for --extractor; lxcompress prune prunes a model")
    if not twins and (dense or structured or int4):
        raise typer.BadParameter("--dense, --structured and --int4 name twins; give --twins too")
    if twins and (precision or opset is not None or no_fuse or layouts or fixed):
        raise typer.BadParameter("--twins exports with default settings and its own precisions; give only --format")
    if not is_onnx(chosen) and (opset is not None or no_fuse):
        raise typer.BadParameter(f"--opset and --no-fuse are for ONNX formats; format {chosen} has neither")
    if layouts is not None and (chosen != "engine" or layouts not in ("measured", "table")):
        raise typer.BadParameter(f"--layouts {layouts}: give measured or table, with --format engine")

    from lxcompress.errors import ExportError
    from lxcompress.recipe import load_recipe
    from lxcompress.workflow.checks import check_paths
    from lxcompress.workflow.export import ExportRequest, check_request
    from lxcompress.workflow.twins import TwinSources

    known = load_recipe(recipe) if recipe else None
    wanted = ExportRequest(
        ticket, chosen, precision, out=out, recipe=known, fuse=not no_fuse, opset=opset, layouts=layouts, fixed=fixed
    )
    sources = [path for path in (dense, structured) if path]
    check_request(wanted, others=[*sources, *([recipe] if recipe else [])])
    check_paths(sources, what="give a model or a ticket", kind=ExportError)
    if twins:
        _export_twins(wanted, TwinSources(ticket, dense, structured, int4), as_json=as_json)
    else:
        _export(wanted, as_json=as_json)


def _choose_format(format: str | None, *, is_onnx: bool, is_twins: bool) -> str:
    """Return the format that the options name. Raises BadParameter if they name none, or contradict each other."""
    if is_onnx and format not in (None, "onnx"):
        raise typer.BadParameter(f"--onnx and --format {format} contradict each other; give one of them")
    if not is_onnx and format is None and not is_twins:
        raise typer.BadParameter("give a format: --onnx, or --format FORMAT")
    return format or "onnx"


def _export(request: ExportRequest, *, as_json: bool) -> None:
    """Export one file, and show it and how its answers compare with those of its source."""
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document

    with json_document(wanted=as_json) as emit, working(f"reading {request.source}") as progress:
        from lxcompress.workflow.export import export_file

        folder, made = export_file(request, progress=progress)
        emit({"folder": str(folder), **made.model_dump(mode="json")})
    if not as_json:
        _show(folder, made)
    show_stale([folder])


def _export_twins(request: ExportRequest, sources: TwinSources, *, as_json: bool) -> None:
    """Export the twins of a ticket (its alternatives: dense and structured, each also in int8), and show them."""
    from lxcompress.cli.screen import json_document
    from lxcompress.cli.twins import export_and_show, twins_json

    with json_document(wanted=as_json) as emit:
        emit(twins_json(export_and_show(sources, formats=[request.format], out=request.out, recipe=request.recipe)))


def show_stale(folders: Sequence[Path]) -> None:
    """Show which artifacts in `folders` were measured only before their present file was written; nothing if none."""
    from lxcompress.cli.screen import remarks
    from lxcompress.exporters.twins import bench_command
    from lxcompress.measure.bench_paths import find_stale

    stale = find_stale(folders)
    if stale:
        what = "its measurement is of an earlier file" if len(folders) == 1 else "measurements are of earlier files"
        words = f"stale     {what}, and no longer used; measure again with: {bench_command(stale)}"
        remarks.print(words, style="yellow", markup=False, soft_wrap=True)


def _show(folder: Path, made: Artifact) -> None:
    """Show the file that was written, and how its answers compare with those of its source."""
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
        source = f"; ticket: {percent(made.source_accuracy.accuracy)} %" if made.source_accuracy else ""
        line("accuracy", f"{percent(made.accuracy.accuracy)} % of the exported file{source}")
    cost = "" if not stores_zeros(made.format, "") else "; a dense format stores them like other values"
    line("zeros", f"{percent(made.prunable_zeros or 0, 1)} % of the prunable weights, counted in the file{cost}")
    for doubt in made.doubts:
        screen.print(f"[bold yellow]warning[/]   {escape(doubt)}", soft_wrap=True)
    for note in made.notes:
        line("note", note)
    if made.parity:
        screen.print(f"next      {command_line('bench', folder)}", markup=False, soft_wrap=True)


def is_onnx(format: str) -> bool:
    """Return whether files of a format are written from an ONNX graph; True for an unknown format.

    An unknown format is refused later, with a list of the formats.
    """
    return not is_format(format) or find_format(format).is_onnx
