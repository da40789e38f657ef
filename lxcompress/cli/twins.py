"""Twins on the terminal: a small table, what is missing from it, and what measures them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxcompress.exporters.twins import Absent, Exported
    from lxcompress.recipe import Recipe


def export_and_show(
    ticket: Path,
    *,
    format: str,
    dense: Path | None = None,
    other: Path | None = None,
    out: Path | None = None,
    recipe: Recipe | None = None,
) -> list[Exported | Absent]:
    """Export the twins of a ticket, those that are missing, and show all; return them. Raises LxError."""
    from lxcompress.cli.export import show_stale
    from lxcompress.cli.progress import working
    from lxcompress.errors import ExportError
    from lxcompress.exporters.twins import Absent, Exported, export_twins, plan_twins

    with working(f"the twins of {ticket}") as progress:
        wanted, absent = plan_twins(ticket, format=format, dense=dense, other=other, out=out)
        done = export_twins(wanted, recipe=recipe, progress=progress)
    show_twins([*done, *absent])
    show_stale([each.out for each in done if isinstance(each, Exported) and each.is_new])
    failed = [each for each in done if isinstance(each, Absent)]
    if failed:
        rest = "; the others are there" if len(failed) < len(done) else ""
        raise ExportError(f"{len(failed)} of {len(done)} twins could not be exported{rest}: {failed[0].why}")
    return [*done, *absent]


def twins_json(twins: Sequence[Exported | Absent]) -> dict[str, Any]:
    """Return the twins as --json prints them: those that are there, and why the others are not."""
    from lxcompress.exporters.twins import Absent

    there = [each for each in twins if not isinstance(each, Absent)]
    return {
        "twins": [
            {"twin": each.twin, "folder": str(each.out), "is_new": each.is_new, **each.artifact.model_dump(mode="json")}
            for each in there
        ],
        "absent": [{"twin": each.twin, "why": each.why} for each in twins if isinstance(each, Absent)],
    }


def show_twins(twins: Sequence[Exported | Absent]) -> None:
    """A row for each that is there, a line for each that is not, and the bench command for all of them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.exporters.twins import Absent, bench_command

    there = [each for each in twins if not isinstance(each, Absent)]
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("twin", no_wrap=True)
    for name in ("size", "x dense", "accuracy %", "answers changed"):
        table.add_column(name, justify="right")
    for each in there:
        table.add_row(*_row(each, there))
    if there:
        out.print(table, markup=False)
    reasons: dict[str, list[str]] = {}
    for each in twins:
        if isinstance(each, Absent):
            reasons.setdefault(each.why, []).append(each.twin)
    for why, names in reasons.items():
        out.print(f"no {' and no '.join(names)}: {why}", markup=False, soft_wrap=True)
    for each in there:
        for doubt in each.artifact.doubts:
            out.print(f"warning   {each.twin}: {doubt}", markup=False, soft_wrap=True, style="bold yellow")
    kept = [each for each in there if not each.is_new]
    if kept:
        out.print(f"{len(kept)} of {len(there)} already exported and up to date; skipped", style="dim")
    if there:
        out.print(f"next      {bench_command(each.out for each in there)}", markup=False, soft_wrap=True)


def _row(each: Exported, there: Sequence[Exported]) -> tuple[str, ...]:
    from lxcompress.exporters.twins import DENSE
    from lxcompress.units import percent, size_text

    made = each.artifact
    dense = next((other.artifact.size_bytes for other in there if other.twin == DENSE), None)
    changed = f"{made.parity.changed_answers} of {made.parity.questions}" if made.parity else "not known"
    return (
        each.twin,
        size_text(made.size_bytes),
        f"{made.size_bytes / dense:.3f}" if dense else "–",
        percent(made.accuracy.accuracy) if made.accuracy else "not known",
        changed,
    )
