"""Prepare a store from published region features: TSV, HDF5, or a folder of .npz files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.data.regions.convert import PrepareResult, StoreOptions, make_store
from lxcompress.data.regions.hdf5 import HDF5, open_hdf5
from lxcompress.data.regions.lines import begins
from lxcompress.data.regions.npz import open_npz
from lxcompress.data.regions.rows import ReadOptions, RegionSource, StrippedSource
from lxcompress.data.regions.tsv import open_tsv
from lxcompress.errors import DataError
from lxcompress.progress import Progress, no_progress

REGIONS = 36
"""The number of regions of an image that LXMERT reads (Tan & Bansal 2019)."""
PUBLISHED = ReadOptions()
"""The options for sources as their authors publish them."""


def prepare_store(
    paths: Sequence[Path],
    out: Path,
    *,
    objects: int = REGIONS,
    skip_bad: bool = False,
    reading: ReadOptions = PUBLISHED,
    progress: Progress = no_progress,
) -> PrepareResult:
    """Convert the sources `paths`, in their order, to the store `out`, with room for `objects` regions of each image.

    A bad row raises DataError; with `skip_bad` it is left out and listed in bad_rows.json. After an error the converted
    rows stay in `out`.part, and the same call resumes from them. Raises DataError also for an image with more regions.
    """
    opened = [(source, path) for path in paths for source in open_source(path, reading)]
    sources, origins = [source for source, _ in opened], [path for _, path in opened]
    return make_store(sources, origins, out, StoreOptions(objects, skip_bad, str(reading)), progress=progress)


def open_source(path: Path, reading: ReadOptions = PUBLISHED) -> Sequence[RegionSource]:
    """Return the sources in `path`: a folder of .npz files, HDF5, or TSV, plain, gzip or in a zip. Raises DataError."""
    found: Sequence[RegionSource]
    try:
        if path.is_dir():
            found = [open_npz(path, scale=reading.scale)]
        elif not path.is_file():
            raise DataError(
                f"{path}: no such file; give a TSV of region features (or its zip), HDF5, or a folder of .npz"
            )
        elif begins(path, len(HDF5)) == HDF5:
            found = [open_hdf5(path, scale=reading.scale)]
        else:
            found = open_tsv(path, scale=reading.scale)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror or problem}); check its permissions") from None
    return [StrippedSource(source) for source in found] if reading.strip_extension else found
