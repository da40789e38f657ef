"""Extract the region features of photographs into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.catalog.extractors import DEFAULT_EXTRACTOR, PIXELS, describe_options, find_extractor
from lxcompress.errors import DataError
from lxcompress.progress import Progress, no_progress

if TYPE_CHECKING:
    from lxcompress.data.regions.convert import PrepareResult
    from lxcompress.extractors.source import Extractor


GRID, SIDES = 6, (8, 512)
"""The cells on a side by default: 36 regions, as many as LXMERT reads; and the smallest and the largest picture."""


@dataclass(frozen=True)
class ExtractOptions:
    """The options of an extraction."""

    extractor: str = DEFAULT_EXTRACTOR
    grid: int | None = None
    """the cells on a side; None is GRID, and `pixels` has no cells"""
    side: int | None = None
    """the pixels on a side of the pictures of the extractor `pixels`"""
    ids: Path | None = None
    """the table of image ids, or find.NUMBERS; None takes the names of the files"""
    skip_bad: bool = False
    threads: int | None = None
    """how many photographs are read at a time; None is one for each core"""


@dataclass(frozen=True)
class ExtractResult:
    """The store that was made, and how many files of the folders were no photographs."""

    made: PrepareResult
    ignored: int


def extract_features(
    photos: Sequence[Path], out: Path, options: ExtractOptions | None = None, *, progress: Progress = no_progress
) -> ExtractResult:
    """Extract the features of `photos` (files, folders, patterns) into the store `out`. Raises DataError.

    A bad photograph raises DataError, or is left out. The same call resumes after an error.
    """
    options = options or ExtractOptions()
    check_options(options)  # before the photographs are listed
    from lxcompress.data.regions.convert import StoreOptions, make_store
    from lxcompress.extractors.find import find_photos
    from lxcompress.extractors.source import PhotoSource
    from lxcompress.machine import usable_cores

    found = find_photos(photos, options.ids)
    extractor = open_extractor(options)
    source = PhotoSource(found.paths, found.ids, extractor, options.threads or len(usable_cores()))
    store = StoreOptions(len(extractor.boxes), options.skip_bad, describe_options(options.extractor, options.side))
    return ExtractResult(make_store([source], [found.paths], out, store, progress=progress), found.ignored)


def check_options(options: ExtractOptions) -> None:
    """Raise DataError if the extractor is unknown, or if an option has no effect on it."""
    if options.extractor != PIXELS:
        find_extractor(options.extractor)
        if options.side is not None:
            raise DataError(f"--side {options.side}: has no effect on {options.extractor}; it is for {PIXELS}")
        return
    if options.grid is not None:
        raise DataError(f"--grid {options.grid}: has no effect on {PIXELS}, whose only region is the whole photograph")
    if options.side is None or not SIDES[0] <= options.side <= SIDES[1]:
        given = "is missing" if options.side is None else f"is {options.side}"
        raise DataError(
            f"--side: {given}, expected {SIDES[0]} to {SIDES[1]}; give the side of the pictures that the model reads "
            "(384 for the published ViLT)"
        )


def open_extractor(options: ExtractOptions) -> Extractor:
    """Return the extractor that `options` ask for. Raises DataError."""
    check_options(options)
    if options.extractor == PIXELS:
        from lxcompress.extractors.pixels import PixelExtractor

        assert options.side is not None, "check_options has seen a side"
        return PixelExtractor(options.side)
    from lxcompress.extractors.grid import load_extractor

    return load_extractor(find_extractor(options.extractor), GRID if options.grid is None else options.grid)
