"""`lxcompress data prepare`: convert published region features into one memory-mapped store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from lxcompress.cli.store import show_progress, show_store, show_unread


def prepare_cli(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="TSV of region features (plain, gzip, or its zip), HDF5, or a folder of .npz files; with --pictures, "
            "photographs or folders of them.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the store to write.")],
    objects: Annotated[
        int | None, typer.Option("--objects", help="Regions stored for each image; 36 by default.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip and list bad rows instead of stopping at the first.")
    ] = False,
    boxes: Annotated[
        Literal["pixels", "normalised"],
        typer.Option("--boxes", help="normalised if the boxes are 0-1 already, in a format that usually has pixels."),
    ] = "pixels",
    pictures: Annotated[
        int | None,
        typer.Option("--pictures", metavar="SIDE", help="Store photographs as pictures of this side, for ViLT (384)."),
    ] = None,
    strip_extension: Annotated[
        bool, typer.Option("--strip-extension", help="Remove .jpg, .jpeg and .png from the end of image ids.")
    ] = False,
) -> None:
    """Convert region features into one store that studies read from disk: float16 features, boxes and image ids.

    Several sources make one store. The same command resumes an interrupted one.

    \b
    Example: lxcompress data prepare train2014_obj36.zip val2014_obj36.zip --out coco-obj36
    Or:      lxcompress data prepare photos/ --pictures 384 --out coco-384
    """
    from lxcompress.cli.screen import resumable
    from lxcompress.data.regions.prepare import REGIONS, prepare_store
    from lxcompress.data.regions.rows import ReadOptions
    from lxcompress.workflow.features import prepare_pictures

    reading = ReadOptions(boxes=boxes, strip_extension=strip_extension)
    started, found = time.monotonic(), None
    with resumable(), show_progress() as progress:
        if pictures is not None:
            given = f"{f'--objects {objects} ' if objects is not None else ''}{reading}".strip()
            found = prepare_pictures(sources, out, pictures, skip_bad=skip_bad, without_effect=given, progress=progress)
            made = found.made
        else:
            size = REGIONS if objects is None else objects
            made = prepare_store(sources, out, objects=size, skip_bad=skip_bad, reading=reading, progress=progress)
    show_store(made, out, time.monotonic() - started)
    if found is not None:
        show_unread(found)
