"""`lxcompress advise`: predict the sizes of the files in each format at a sparsity, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.exporters.advice import Advice, Sizes


def advise_cli(
    sparsity: list[float] = typer.Option(
        [], "--sparsity", help="Share of the prunable weights removed; repeatable.  [default: 0.5, 0.7, 0.9]"
    ),
    format: str | None = typer.Option(None, "--format", help="Show one format.  [default: all]"),
    precision: str | None = typer.Option(
        None, "--precision", help="fp32, fp16, bf16, int8, int8-static or int4.  [default: all]"
    ),
    model: Path | None = typer.Option(None, "--model", help="A transformers folder.  [default: full-size LXMERT]"),
    as_json: bool = typer.Option(False, "--json", help="Print sizes and measured facts as JSON."),
) -> None:
    """Show what a sparsity saves on disk and in time in each format, and from which sparsity on.

    Example: lxcompress advise --sparsity 0.5 --format onnx-sparse
    """
    from lxcompress.exporters.advice import SPARSITIES, advice_json, advise, check_advice, full_size, sizes_of_folder
    from lxcompress.output import json_text

    check_advice(sparsity, format, precision)
    sizes = sizes_of_folder(model) if model else full_size()
    found = advise(sizes, sparsities=sparsity or SPARSITIES, format=format, precision=precision)
    if as_json:
        typer.echo(json_text(advice_json(sizes, found)))
    else:
        _show(sizes, found, is_one_format=format is not None)


def _show(sizes: Sizes, found: Sequence[Advice], *, is_one_format: bool) -> None:
    """Show the sizes of the model in each format and, unless only one format is wanted, the measured times."""
    from lxcompress.cli.screen import out
    from lxcompress.exporters.advice import instead, verdict

    out.print(
        f"{sizes.name}: {sizes.weights / 1e6:.1f} M weights, {sizes.prunable_weights / 1e6:.1f} M of them prunable",
        markup=False,
    )
    out.print(_table(found), markup=False)
    stored = [advice for advice in found if advice.break_even is None]
    usual = {advice.precision: advice.estimates for advice in reversed(stored)}
    dense = list(dict.fromkeys(advice.format for advice in stored if advice.estimates == usual[advice.precision]))
    others = f" Dense stands for {', '.join(dense)}." if len(dense) > 1 else ""
    words = f"MB of the tensors; relative to dense of the same precision; relative to dense fp32.{others}"
    out.print(words, style="dim", markup=False)
    _show_speed()
    out.print()
    for advice in found if is_one_format else []:
        for estimate in advice.estimates:
            out.print(verdict(advice, estimate), style="bold", markup=False)
    for bought in found[0].estimates:
        out.print(instead(sizes, bought.sparsity), style="bold", markup=False)


def _table(found: Sequence[Advice]) -> Table:
    """Return a table with a row for each format and precision; formats that store zeros share a row if it is equal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.units import percent, short_percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("file", no_wrap=True)
    for bought in found[0].estimates:
        table.add_column(f"{short_percent(bought.sparsity)} %", justify="right", no_wrap=True)
    table.add_column("smaller\nabove", justify="right", no_wrap=True)
    rows: dict[tuple[str, ...], str] = {}
    for advice in found:
        cells = [f"{size.bytes / 1e6:.4g} {size.of_same:.2f} {size.of_fp32:.2f}" for size in advice.estimates]
        limit = "never" if advice.break_even is None else f"{percent(advice.break_even, 1)} %"
        is_usual = advice.break_even is None and f"dense {advice.precision}" not in rows.values()
        name = f"dense {advice.precision}" if is_usual else f"{advice.format} {advice.precision}"
        # Most formats that store zeros have the same sizes, so they share one row.
        rows.setdefault((*cells, limit) if advice.break_even is None else (*cells, limit, name), name)
    for (*cells,), name in rows.items():
        table.add_row(name, *cells[: len(found[0].estimates) + 1])
    return table


def _show_speed() -> None:
    """Show measured times relative to dense: with zeros, in the two runtimes that use zeros, and in int8."""
    from lxcompress.cli.screen import out
    from lxcompress.exporters.advice import read_measured
    from lxcompress.units import short_percent

    measured = read_measured()
    names = list(dict.fromkeys(entry.runtime for entry in measured.runtimes))
    sparse = measured.deepsparse
    dense = sparse.latency_ms["0"]["1"]
    at = ", ".join(
        f"{short_percent(float(key))} % {value['1'] / dense:.2f}"
        for key, value in sparse.latency_ms.items()
        if float(key)
    )
    out.print()
    faster = "".join(f"; format {name} is faster, in its own runtime" for name in measured.faster_with_zeros)
    out.print(f"Unstructured zeros make no format faster in {', '.join(names)}{faster}.", markup=False)
    for kind, latencies in measured.engine.latency_ms.items():
        shown = ", ".join(f"{short_percent(float(key))} % {value:g}" for key, value in latencies.items())
        out.print(f"{measured.engine.runtime} ({measured.engine.remark}), {kind}, ms: {shown}.", markup=False)
    out.print(f"{sparse.runtime} ({sparse.remark}) uses zeros; time relative to its dense: {at}.", markup=False)
    for runtime in names:
        pair = {entry.precision: entry for entry in measured.runtimes if entry.runtime == runtime}
        if {"fp32", "int8"} <= pair.keys():
            before, after = pair["fp32"], pair["int8"]
            out.print(
                f"int8 in {runtime}: {before.latency_ms['1']:g} to {after.latency_ms['1']:g} ms, "
                f"{before.peak_mb:g} to {after.peak_mb:g} MB of memory.",
                markup=False,
            )
    out.print(f"Measured: {measured.task}, 1 thread; {measured.machine}; {measured.date}.", style="dim", markup=False)
