"""`lxcompress data fetch`: download the public data and weights that the recipes need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.data.fetch import FetchStep
    from lxcompress.progress import Progress

STATES = {
    "there": "present",
    "packed": "present, will be unpacked",
    "partly": "{have} present",
    "missing": "missing",
}


def fetch_cli(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="What to download; --list shows the names.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder to download to; each NAME gets a subfolder.")] = Path("data"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan; connect to nothing, write nothing.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show every name, its size and its licence.")] = False,
) -> None:
    """Download public data and weights, each under its publisher's licence.

    Interrupted downloads resume, present files are checked against their checksums, and zips of JSON are unpacked.

    \b
    Example:
      lxcompress data fetch vqa2 coco-obj36 --dry-run
    """
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.screen import resumable
    from lxcompress.data.fetch import fetch, plan
    from lxcompress.writing import check_out

    if show_list:
        _show_list()
        return
    if not names:
        raise typer.BadParameter("give at least one, or --list", param_hint="NAME")
    check_out(to, [], kind="run", option="--to")
    steps = plan(names, to)
    _show_plan(steps, to)
    if dry_run:
        return
    with resumable(), _progress() as progress:
        fetched = fetch(names, to, progress=progress)
    screen.print("")
    for file in fetched:
        origin = "as published" if file.is_published else "of the first download"
        done = "checked" if file.was_there else "fetched"
        screen.print(f"{done}  {file.target}  (SHA-256 {file.sha256[:12]}, {origin})", markup=False, soft_wrap=True)


def _show_list() -> None:
    """Show every collection that can be downloaded, with its size and its licence."""
    from lxcompress.cli.screen import out as screen
    from lxcompress.data.catalogue import CATALOGUE
    from lxcompress.data.fetch import collection_size_text

    width = max(len(name) for name in CATALOGUE)
    for name, collection in CATALOGUE.items():
        size = collection_size_text(collection)
        screen.print(f"{name:<{width}}  {size:<19}  {collection.what}", markup=False, soft_wrap=True)
        screen.print(f"{'':<{width}}  licence: {collection.licence}", markup=False, soft_wrap=True)


def _show_plan(steps: Sequence[FetchStep], folder: Path) -> None:
    """Show the licence of each collection, and the size, address, target and state of each of its files."""
    from lxcompress.cli.screen import out as screen
    from lxcompress.data.catalogue import CATALOGUE
    from lxcompress.data.fetch import (
        collection_size_text,
        free_bytes,
        missing_bytes,
        remote_size_text,
    )
    from lxcompress.units import size_text

    def say(text: str, style: str | None = None) -> None:
        screen.print(text, style=style, markup=False, soft_wrap=True)

    for name in dict.fromkeys(step.collection for step in steps):
        collection = CATALOGUE[name]
        say(f"{name}: {collection.what} ({collection_size_text(collection)})", "bold")
        say(f"  licence  {collection.licence}")
        say(f"  terms    {collection.page}")
        if collection.elsewhere:
            say(f"  also at  {collection.elsewhere} (with a browser)")
        for step in steps:
            if step.collection != name:
                continue
            state = STATES[step.state].format(have=size_text(step.have_bytes))
            say(f"  {remote_size_text(step.remote):<13} {step.remote.address}")
            say(f"  {'':<13} -> {step.target}  [{state}]")
            if step.remote.address.startswith("http:"):
                say(f"  {'':<13} not encrypted: its publisher offers no https address", "yellow")
    unknown = sum(
        step.state in ("partly", "missing")
        and remote_size_text(step.remote) == "unknown"
        and CATALOGUE[step.collection].about_bytes is None
        for step in steps
    )
    also = f" and {unknown} of unknown size" if unknown else ""
    free = size_text(free_bytes(folder))
    say(f"to download: {size_text(missing_bytes(steps))}{also}; free on the disk of {folder}: {free}")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield a function that shows the progress: a bar on a terminal, else a line for each new file."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    from lxcompress.cli.progress import print_stages
    from lxcompress.cli.screen import remarks

    if not remarks.is_terminal:
        yield print_stages()
        return
    shown_before = ""
    with RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=remarks,
        transient=True,
    ) as bars:
        shown = bars.add_task("", total=None)

        def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            nonlocal shown_before
            if what != shown_before:
                shown_before = what
                # Reset the bar, so that it shows the speed of this file alone; bytes of an earlier run do not count.
                bars.reset(shown, description=what, total=total or None, completed=done)
            bars.update(shown, completed=done, total=total or None)

        yield show
