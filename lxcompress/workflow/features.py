"""Extract the region features of photographs into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.catalog.extractors import DEFAULT_EXTRACTOR, find_extractor
from lxcompress.progress import Progress, no_progress

if TYPE_CHECKING:
    from lxcompress.data.regions.convert import PrepareResult


@dataclass(frozen=True)
class ExtractOptions:
    """The options of an extraction; `threads` is one for each core by default."""

    extractor: str = DEFAULT_EXTRACTOR
    grid: int = 6
    ids: Path | None = None
    """the table of image ids; None takes the names of the files"""
    skip_bad: bool = False
    threads: int | None = None


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
    spec = find_extractor(options.extractor)
    from lxcompress.data.regions.convert import StoreOptions, make_store
    from lxcompress.extractors.find import find_photos
    from lxcompress.extractors.grid import load_extractor
    from lxcompress.extractors.source import PhotoSource
    from lxcompress.machine import usable_cores

    found = find_photos(photos, options.ids)
    extractor = load_extractor(spec, options.grid)
    source = PhotoSource(found.paths, found.ids, extractor, options.threads or len(usable_cores()))
    reading = f"--extractor {spec.name}"
    store = StoreOptions(extractor.regions, options.skip_bad, reading)
    return ExtractResult(make_store([source], [found.paths], out, store, progress=progress), found.ignored)
