"""Show how a store of region features is written, and what it has: for `data prepare` and `features`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxcompress.data.regions.convert import PrepareResult
    from lxcompress.progress import Progress
    from lxcompress.workflow.features import ExtractResult

LINE_PERIOD_S = 10
"""Seconds between two lines of progress; they are printed if there is no terminal for a bar."""
MOST_BAD_ROWS = 10
"""The largest number of bad rows that are shown; a file lists all of them."""


def show_store(made: PrepareResult, out: Path, duration_s: float) -> None:
    """Show the store that was written, how long it took, and what the user should know about it."""
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.screen import remarks
    from lxcompress.data.regions.store import find_box_doubt, open_store
    from lxcompress.data.regions.write import BAD_ROWS
    from lxcompress.units import duration, size_text

    record = made.record
    size = sum(file.size_bytes for file in record.files.values())
    regions = "1 region" if record.objects == 1 else f"{record.objects} regions"
    screen.print(
        f"{out}  {record.images:,} images, {regions} of {record.features:,} features, {size_text(size)}",
        markup=False,
        soft_wrap=True,
    )
    new = record.images - made.kept_before
    if not new:
        screen.print("the store exists and has the same sources; nothing was done")
    else:
        before = f"; {made.kept_before:,} were done before" if made.kept_before else ""
        screen.print(f"converted {new:,} images in {duration(duration_s)}, {new / duration_s:,.0f} per second{before}")
    screen.print(f"largest feature {record.largest_feature:g}; float16 holds 65504")
    if record.skipped:
        _show_bad(out / BAD_ROWS, record.skipped)
    else:
        screen.print("no row was skipped")
    doubt = find_box_doubt(open_store(out).boxes)
    if doubt:
        remarks.print(f"warning: {doubt}", style="yellow", markup=False, soft_wrap=True)
    remarks.print(f"in a recipe: data.features: {out}", markup=False, soft_wrap=True)


def show_unread(found: ExtractResult) -> None:
    """Show which files of the folders were not read: those with another extension, and links whose file is missing."""
    from lxcompress.cli.screen import remarks, warnings

    if found.ignored:
        remarks.print(f"{found.ignored:,} files of the folders have another extension and were not read")
    if found.dead_links:
        count = len(found.dead_links)
        words = (
            f"{count:,} links were not read, because their files are"
            if count > 1
            else "1 link was not read, because its file is"
        )
        warnings.print(
            f"warning: {words} missing; the first is {found.dead_links[0]}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _show_bad(path: Path, count: int) -> None:
    """Show the first bad rows of the sources, from the file `path` that lists all of them."""
    import json

    from lxcompress.cli.screen import out as screen
    from lxcompress.text import as_printable, read_text

    rows = json.loads(read_text(path))
    screen.print(f"{count:,} bad rows were SKIPPED; {path} lists them", style="bold red", markup=False, soft_wrap=True)
    for row in rows[:MOST_BAD_ROWS]:
        unit = next(name for name in ("line", "file", "row", "photograph") if name in row)
        screen.print(
            as_printable(f"  {row['source']}, {unit} {row[unit]:,} (image {row['image']!r}): {row['reason']}"),
            markup=False,
            soft_wrap=True,
        )
    if len(rows) > MOST_BAD_ROWS:
        screen.print(f"  and {len(rows) - MOST_BAD_ROWS:,} more")


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a function that shows the progress: a bar of bytes on a terminal, else a line now and then."""
    from lxcompress.cli.screen import remarks

    if not remarks.is_terminal:
        yield _print_lines()
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with RichProgress(*columns, console=remarks, transient=True, expand=True) as bar:
        task = bar.add_task("opening", total=None, speed="")
        first: list[tuple[float, float]] = []

        def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            now, images = time.monotonic(), value or 0
            first[:] = first or [(now, images)]
            since, before = first[0]
            speed = f"{(images - before) / (now - since):,.0f} images/s" if now > since else ""
            bar.update(task, description=Path(what).name, completed=done, total=total, speed=speed)

        yield show


def _print_lines() -> Progress:
    """Return a function that prints a line of progress every LINE_PERIOD_S seconds."""
    from lxcompress.cli.screen import remarks

    last = [time.monotonic()]

    def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        now = time.monotonic()
        if now - last[0] >= LINE_PERIOD_S:
            last[0] = now
            remarks.print(
                f"{Path(what).name}: {100 * done // total} % of all sources, {value or 0:,} images",
                markup=False,
                soft_wrap=True,
            )

    return show
