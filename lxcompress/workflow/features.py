"""Extract the region features of photographs into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.catalog.extractors import (
    DEFAULT_EXTRACTOR,
    DETECTOR,
    EXTRACTORS,
    PIXELS,
    TORCHVISION,
    TRANSFORMERS,
    describe_options,
    find_extractor,
    is_extractor,
)
from lxcompress.errors import DataError
from lxcompress.progress import Progress, no_progress

if TYPE_CHECKING:
    from lxcompress.data.regions.convert import PrepareResult
    from lxcompress.extractors.photo import Picture
    from lxcompress.extractors.source import Extractor

GRID, SIDES = 6, (8, 512)
"""The cells on a side by default: 36 regions, as many as LXMERT reads; and the smallest and the largest picture."""


@dataclass(frozen=True)
class ExtractOptions:
    """The options of an extraction."""

    extractor: str = DEFAULT_EXTRACTOR
    grid: int | None = None
    """the cells on a side; None is 6, and some extractors have no cells"""
    side: int | None = None
    """the pixels on a side of the pictures of the extractor `pixels`"""
    weights: Path | None = None
    """the file or folder of the weights, for an extractor that comes without any"""
    ids: Path | None = None
    """the table of image ids, or find.NUMBERS; None takes the names of the files"""
    skip_bad: bool = False
    threads: int | None = None
    """how many photographs are read at a time; None is one for each core"""


@dataclass(frozen=True)
class ExtractResult:
    """The store that was made, and what was not read: files with another extension, and links without a file."""

    made: PrepareResult
    ignored: int
    dead_links: tuple[Path, ...]


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
    reading = describe_options(extractor.record.name, options.side)
    store = StoreOptions(extractor.objects, options.skip_bad, reading, extractor.record)
    made = make_store([source], [found.paths], out, store, progress=progress)
    return ExtractResult(made, found.ignored, found.dead_links)


def prepare_pictures(
    photos: Sequence[Path],
    out: Path,
    side: int,
    *,
    skip_bad: bool = False,
    without_effect: str = "",
    progress: Progress = no_progress,
) -> ExtractResult:
    """Store `photos` as pictures of `side` x `side` pixels, for models that read pictures. Raises DataError.

    `without_effect` are the options of `lxcompress data prepare` that were given although they are for regions.
    """
    if without_effect:
        raise DataError(f"{without_effect}: has no effect on --pictures {side}; leave it out")
    options = ExtractOptions(extractor=PIXELS, side=side, skip_bad=skip_bad)
    return extract_features(photos, out, options, progress=progress)


def check_options(options: ExtractOptions) -> None:
    """Raise DataError if the extractor is unknown, if it lacks an option, or if an option has no effect on it."""
    name = options.extractor
    is_detector, is_torchvision = name == DETECTOR, name.startswith(TORCHVISION)
    if not is_extractor(name):
        find_extractor(name)
    if options.side is not None and name != PIXELS:
        raise DataError(f"--side {options.side}: has no effect on {name}; it is for {PIXELS}")
    if options.grid is not None and name in (PIXELS, DETECTOR):
        what = "whose only region is the whole photograph" if name == PIXELS else "which finds regions of any size"
        raise DataError(f"--grid {options.grid}: has no effect on {name}, {what}")
    if options.weights is not None and not (is_detector or is_torchvision):
        raise DataError(
            f"--weights {options.weights}: has no effect on {name}; it is for {DETECTOR} and {TORCHVISION}NAME"
        )
    if options.weights is None and (is_detector or is_torchvision):
        what = "the folder unc-nlp/frcnn-vg-finetuned" if is_detector else "the file of its weights"
        raise DataError(f"--extractor {name}: has no weights of its own; give {what} as --weights PATH")
    if name == PIXELS and (options.side is None or not SIDES[0] <= options.side <= SIDES[1]):
        given = "is missing" if options.side is None else f"is {options.side}"
        raise DataError(
            f"--side: {given}, expected {SIDES[0]} to {SIDES[1]}; give the side of the pictures that the model reads "
            "(384 for the published ViLT)"
        )


def check_grid(options: ExtractOptions) -> None:
    """Raise DataError unless the extractor is a network whose last map is pooled to a grid."""
    check_options(options)
    if options.extractor not in EXTRACTORS:
        grids = ", ".join(EXTRACTORS)
        raise DataError(f"--extractor {options.extractor}: is no network that can be exported; give one of {grids}")


def open_extractor(options: ExtractOptions) -> Extractor:
    """Return the extractor, with its weights loaded. Raises DataError."""
    check_options(options)
    name, grid = options.extractor, GRID if options.grid is None else options.grid
    if name == PIXELS:
        from lxcompress.extractors.pixels import PixelExtractor

        assert options.side is not None, "check_options has seen a side"
        return PixelExtractor(options.side)
    if name == DETECTOR:
        from lxcompress.extractors.detector import load_detector

        assert options.weights is not None, "check_options has seen the weights"
        return load_detector(options.weights)
    if name.startswith(TORCHVISION):
        from lxcompress.extractors.torchvision_models import load_torchvision

        assert options.weights is not None, "check_options has seen the weights"
        return load_torchvision(name.removeprefix(TORCHVISION), options.weights, grid)
    if name.startswith(TRANSFORMERS):
        from lxcompress.extractors.transformers_models import load_transformers

        return load_transformers(Path(name.removeprefix(TRANSFORMERS)), grid)
    from lxcompress.extractors.grid import load_extractor

    return load_extractor(find_extractor(name), grid)


def read_picture(photo: Path, extractor: Extractor) -> Picture:
    """Return the photograph as the extractor reads it. Raises DataError."""
    from lxcompress.data.regions.rows import RowError
    from lxcompress.extractors.photo import quiet_pillow

    try:
        with quiet_pillow():
            return extractor.read(photo)
    except RowError as problem:
        raise DataError(f"{photo}: {problem}") from None
