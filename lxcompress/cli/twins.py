"""Show the twins of a ticket (its alternatives): the exported ones, the missing ones, and how to measure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxcompress.exporters.twins import MissingTwin, TwinExport
    from lxcompress.recipe import Recipe
    from lxcompress.workflow.twins import TwinHelper, TwinSources


def export_and_show(
    sources: TwinSources,
    *,
    formats: Sequence[str],
    out: Path | None = None,
    recipe: Recipe | None = None,
    helper: TwinHelper | None = None,
) -> list[TwinExport | MissingTwin]:
    """Export the twins of a ticket that are not exported yet, and show all twins; return them. Raises LxError.

    The twins of the models of `helper` are left to it.
    """
    from lxcompress.cli.export import show_stale
    from lxcompress.cli.progress import working
    from lxcompress.exporters.twins import TwinExport
    from lxcompress.workflow.twins import check_twins, export_twins

    with working(f"the twins of {sources.ticket}") as progress:
        twins = export_twins(sources, formats=formats, out=out, recipe=recipe, helper=helper, progress=progress)
    show_twins(twins)
    show_stale([twin.out for twin in twins if isinstance(twin, TwinExport) and twin.is_new])
    check_twins(twins)
    return twins


def twins_json(twins: Sequence[TwinExport | MissingTwin]) -> dict[str, Any]:
    """Return the twins as plain JSON values: the exported ones, and why the others are missing."""
    from lxcompress.exporters.twins import MissingTwin, TwinExport

    return {
        "twins": [
            {"twin": twin.twin, "folder": str(twin.out), "is_new": twin.is_new, **twin.artifact.model_dump(mode="json")}
            for twin in twins
            if isinstance(twin, TwinExport)
        ],
        "absent": [{"twin": twin.twin, "why": twin.why} for twin in twins if isinstance(twin, MissingTwin)],
    }


def show_twins(twins: Sequence[TwinExport | MissingTwin]) -> None:
    """Show a row for each exported twin, a line for each missing one, and the command that measures the twins."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.exporters.twins import MissingTwin, TwinExport, bench_command

    exported = [twin for twin in twins if isinstance(twin, TwinExport)]
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("twin", no_wrap=True)
    for name in ("size", "x dense", "accuracy %", "answers changed"):
        table.add_column(name, justify="right")
    for made in exported:
        table.add_row(*_row(made, exported))
    if exported:
        out.print(table, markup=False)
    reasons: dict[str, list[str]] = {}
    for twin in twins:
        if isinstance(twin, MissingTwin):
            reasons.setdefault(twin.why, []).append(twin.twin)
    for why, names in reasons.items():
        out.print(f"no {' and no '.join(names)}: {why}", markup=False, soft_wrap=True)
    for made in exported:
        for doubt in made.artifact.doubts:
            out.print(f"warning   {made.twin}: {doubt}", markup=False, soft_wrap=True, style="bold yellow")
    skipped = [twin for twin in exported if not twin.is_new]
    if skipped:
        out.print(f"{len(skipped)} of {len(exported)} already exported and up to date; skipped", style="dim")
    if exported:
        out.print(f"next      {bench_command(twin.out for twin in exported)}", markup=False, soft_wrap=True)


def _row(twin: TwinExport, exported: Sequence[TwinExport]) -> tuple[str, ...]:
    """Return the cells of a twin: its size, the ratio of that to dense, its accuracy, and how many answers changed."""
    from lxcompress.exporters.twins import DENSE
    from lxcompress.units import percent, size_text

    made = twin.artifact
    dense = next((other.artifact.size_bytes for other in exported if other.twin == DENSE), None)
    changed = f"{made.parity.changed_answers} of {made.parity.questions}" if made.parity else "not known"
    is_only = len({other.artifact.format for other in exported}) == 1
    return (
        twin.twin if is_only else f"{twin.twin} ({made.format})",
        size_text(made.size_bytes),
        f"{made.size_bytes / dense:.3f}" if dense else "–",
        percent(made.accuracy.accuracy) if made.accuracy else "not known",
        changed,
    )
