"""`lxcompress features`: extract the region features of photographs into a store that studies read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lxcompress.catalog.extractors import DEFAULT_EXTRACTOR, EXTRACTOR_NAMES
from lxcompress.cli.store import show_progress, show_store, show_unread


def features_cli(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTOS...", help="JPEG, PNG or WebP files, folders of them, or patterns in quotes."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the store to write.")],
    extractor: Annotated[
        str, typer.Option("--extractor", help=f"One of {', '.join(EXTRACTOR_NAMES)}.")
    ] = DEFAULT_EXTRACTOR,
    grid: Annotated[int | None, typer.Option("--grid", help="Cells on a side; 6 by default: 36 regions.")] = None,
    side: Annotated[
        int | None, typer.Option("--side", help="Pixels on a side, for --extractor pixels (ViLT reads 384).")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="File or folder of the weights, for an extractor that comes without any."),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            metavar="TABLE",
            help="CSV or TSV with the columns file,id; or numbers, for the number at the end of each file's name.",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip and list bad photographs instead of stopping at the first.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Photographs read at a time; one for each core by default.")
    ] = None,
) -> None:
    """Extract region features from photographs into one store, which `data.features` of a recipe names.

    The id of a photograph is its file name without the extension. The same command resumes an interrupted one.

    \b
    Example:
      lxcompress features photos/ --out photos36
    """
    from lxcompress.cli.screen import resumable
    from lxcompress.workflow.features import ExtractOptions, extract_features

    options = ExtractOptions(
        extractor=extractor, grid=grid, side=side, weights=weights, ids=ids, skip_bad=skip_bad, threads=threads
    )
    started = time.monotonic()
    with resumable(), show_progress() as progress:
        found = extract_features(photos, out, options, progress=progress)
    show_store(found.made, out, time.monotonic() - started)
    show_unread(found)
