"""Convert sources of region features to one store, in constant memory; an interrupted conversion can be resumed.

The store is written to the folder STORE.part, which is renamed at the end. Its journal (write.py) counts the rows that
are written. A bad row is a row of a source that cannot be used.

Shapes: O regions of an image, F features of a region.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.data.regions.identity import ExtractorRecord, is_same_extractor
from lxcompress.data.regions.origin import (
    Origin,
    check_unchanged,
    describe_origin,
    digest_content,
    get_stamp,
    is_same,
)
from lxcompress.data.regions.rows import FIRST, BadRow, Position, RegionRow, RegionSource
from lxcompress.data.regions.store import (
    BOXES,
    FEATURES,
    HEADER_BYTES,
    IDS,
    OBJECTS,
    RECORD,
    SourceFile,
    StoreRecord,
    part_of,
    read_store_record,
)
from lxcompress.data.regions.write import (
    BAD_LINES,
    BAD_ROWS,
    JOURNAL,
    LOCK,
    Journal,
    LastRow,
    StoreWriter,
    read_journal,
    to_half,
)
from lxcompress.errors import DataError
from lxcompress.progress import Progress, no_progress
from lxcompress.writing import PREFIX, BusyError, check_out, explain_write_errors, remove_stale, take_lock

REGIONS_LIMIT = 1000
KEPT = (FEATURES, BOXES, OBJECTS, IDS)
PARTS = {name + end for name in (*KEPT, BAD_LINES, BAD_ROWS, JOURNAL, RECORD, LOCK) for end in ("", ".part")}
"""The names that a conversion may write to the folder of an unfinished store."""


@dataclass(frozen=True)
class StoreOptions:
    """The options of a conversion.

    `objects` is the room for regions of each image, `skip_bad` says whether bad rows are left out, and `reading` has
    the options of the command that change how sources are read. `extractor` makes the features, if they are made here.
    """

    objects: int
    skip_bad: bool
    reading: str
    extractor: ExtractorRecord | None = None


@dataclass(frozen=True)
class PrepareResult:
    """The record of a finished store, and how many of its images were converted by earlier runs (`kept_before`)."""

    record: StoreRecord
    kept_before: int


def make_store(
    sources: Sequence[RegionSource],
    origins: Sequence[Origin],
    out: Path,
    options: StoreOptions,
    *,
    progress: Progress = no_progress,
) -> PrepareResult:
    """Convert `sources`, in their order, to the store `out`; the files of each source are in `origins`.

    A bad row raises DataError, or is left out. After an error the converted rows stay in `out`.part, and the same call
    resumes from them. Raises DataError also for an image with too many regions.
    """
    if not 1 <= options.objects <= REGIONS_LIMIT:
        raise DataError(f"--objects {options.objects}: expected 1 to {REGIONS_LIMIT}")
    if out.name in ("", ".."):
        out = out.resolve()
    given = [file for origin in origins for file in (origin if isinstance(origin, tuple) else (origin,))]
    check_out(out, given, kind="folder")
    check_out(part_of(out), given, kind="folder")
    stamps = {origin: get_stamp(origin) for origin in origins}
    files = [
        SourceFile(name=source.name, size_bytes=source.size_bytes, stamp=stamps[origin])
        for source, origin in zip(sources, origins, strict=True)
    ]
    found = _finished(out, files, origins, options)
    if found is not None:
        return PrepareResult(found, found.images)
    part = part_of(out)
    with _locked(part):
        found = _finished(out, files, origins, options)  # another conversion may have finished
        if found is not None:
            shutil.rmtree(part)
            return PrepareResult(found, found.images)
        if (part / RECORD).is_file():  # it is complete, but its folder was not renamed
            record, before = read_store_record(part), 0
        else:
            journal = _begin(part, sources, files, origins, options)
            before = journal.images
            _check_space(out, part, sources, journal)
            record = _convert(sources, origins, part, journal, skip_bad=options.skip_bad, progress=progress)
        for name in (JOURNAL, BAD_LINES, LOCK):
            (part / name).unlink(missing_ok=True)
        if out.is_dir():  # it is empty
            out.rmdir()
        os.replace(part, out)
    return PrepareResult(record, before)


def _convert(
    sources: Sequence[RegionSource],
    origins: Sequence[Origin],
    part: Path,
    journal: Journal,
    *,
    skip_bad: bool,
    progress: Progress,
) -> StoreRecord:
    """Read the rows that the journal does not count yet, and finish the store in `part`; return its record."""
    seen = _seen(part, journal)
    writer = StoreWriter(part, journal)
    try:
        _append(sources, writer, seen, skip_bad=skip_bad, progress=progress)
    finally:
        writer.close()
    writer.check()
    if not writer.journal.images:
        raise DataError(f"{sources[0].where}: has no usable row; give a source with good rows of region features")
    check_unchanged(journal.sources, origins)
    return writer.finish()


def _append(
    sources: Sequence[RegionSource], writer: StoreWriter, seen: set[str], *, skip_bad: bool, progress: Progress
) -> None:
    """Read the rows that the journal does not count yet, and give them to `writer`. Raises DataError.

    `seen` has the ids of the images that are stored; the ids of new images are added.
    """
    journal = writer.journal
    sizes = [file.size_bytes for file in journal.sources]
    piece = writer.take()
    for index in range(journal.source, len(sources)):
        source, is_resumed = sources[index], index == journal.source and journal.item > 0
        start = Position(journal.item, journal.offset) if is_resumed else FIRST
        first = journal.first if is_resumed else len(seen)
        with source.rows(start) as rows:
            if is_resumed:
                _check_same(next(rows, None), journal, source, writer.part)
            for row in rows:
                reason = row.reason if isinstance(row, BadRow) else _misfit(row, journal, seen, source, writer.part)
                if reason is None and isinstance(row, RegionRow):
                    reason = piece.add(row)
                if reason is None:
                    seen.add(row.image)
                elif skip_bad:
                    piece.leave_out(BadRow(row.position, row.image, reason), journal.sources[index], source.unit)
                else:
                    writer.put(piece)
                    raise DataError(_complaint(source, BadRow(row.position, row.image, reason)))
                piece.mark = LastRow(index, row.position, row.image, first)
                if piece.is_full:
                    writer.put(piece)
                    piece = writer.take()
                    done = sum(sizes[:index]) + round(sizes[index] * source.share(row.position))
                    progress(str(source.where), done, sum(sizes), value=len(seen))
    writer.put(piece)


def _misfit(row: RegionRow, journal: Journal, seen: set[str], source: RegionSource, part: Path) -> str | None:
    """Return the reason why `row` does not fit this store, or None. Raises DataError if it has too many regions."""
    count, features = row.features.shape
    if count > journal.objects:
        raise DataError(
            f"{source.where}: {_which(source, row)} has {count} regions, more than --objects {journal.objects}, and no "
            f"region may be dropped; delete the unfinished file {part} and give --objects {max(count, 100)}"
        )
    if features != journal.features:
        return f"each of its regions has {features:,} features, but those of the first image have {journal.features:,}"
    if row.image in seen:
        return "an earlier row has the same image id"
    return None


def _complaint(source: RegionSource, row: BadRow) -> str:
    """Return the text of the error for a bad row."""
    return (
        f"{source.where}: {_which(source, row)}: {row.reason}; correct it or download it again and run the "
        "same command, which resumes from this row, or leave such rows out with --skip-bad"
    )


def _which(source: RegionSource, row: RegionRow | BadRow) -> str:
    """Return the position and the image of a row as text, for an error message."""
    return f"{source.unit} {row.position.item:,} (image {row.image!r})"


def _begin(
    part: Path,
    sources: Sequence[RegionSource],
    files: list[SourceFile],
    origins: Sequence[Origin],
    options: StoreOptions,
) -> Journal:
    """Return the journal of the unfinished store in `part`, or a new journal.

    Raises DataError if the unfinished store was begun with other sources or options.
    """
    journal = read_journal(part)
    if journal is None:
        features = _feature_size(sources, skip_bad=options.skip_bad)
        return Journal(
            objects=options.objects,
            features=features,
            sources=_with_content(files, origins),
            reading=options.reading,
            extractor=options.extractor,
        )
    done = journal.source
    names = [file.name for file in journal.sources]
    is_alike = names == [file.name for file in files] and _has_options(journal, options)
    made = part / JOURNAL
    same = [
        is_alike and is_same(kept, now, path, made=made)
        for kept, now, path in zip(journal.sources, files, origins, strict=is_alike)
    ]
    # A source that was read to its end must be unchanged. A source that was not read yet may have been corrected.
    if not is_alike or not all(same[:done]):
        raise DataError(
            f"{part}: was begun from {', '.join(names)} with {_name_options(journal)}; give the same sources and "
            f"options in this order, or delete {part} to begin again"
        )
    if journal.item and not same[done]:
        _check_rows(sources[done], journal, part)
    kept = [
        file.model_copy(update={"sha256": before.sha256}) if is_unchanged and before.sha256 else None
        for file, before, is_unchanged in zip(files, journal.sources, same, strict=True)
    ]
    again = iter(
        _with_content(
            [f for f, k in zip(files, kept, strict=True) if k is None],
            [o for o, k in zip(origins, kept, strict=True) if k is None],
        )
    )
    return journal.model_copy(update={"sources": [file or next(again) for file in kept]})


def _with_content(files: Sequence[SourceFile], origins: Sequence[Origin]) -> list[SourceFile]:
    """Return the records `files` with the checksums of their contents; each of the paths `origins` is read once."""
    sums = {path: digest_content(path) for path in dict.fromkeys(origins)}
    return [file.model_copy(update={"sha256": sums[path]}) for file, path in zip(files, origins, strict=True)]


def _check_rows(source: RegionSource, journal: Journal, part: Path) -> None:
    """Raise DataError unless a source, whose file has changed, still gives the rows that were stored from it."""
    shape = (journal.images, journal.objects)
    features: Sequence[np.ndarray] | np.ndarray = []
    boxes: Sequence[np.ndarray] | np.ndarray = []
    if shape[0]:
        features = np.memmap(part / FEATURES, "<f2", "r", HEADER_BYTES, (*shape, journal.features))
        boxes = np.memmap(part / BOXES, "<f4", "r", HEADER_BYTES, (*shape, 4))
    ids = (part / IDS).read_bytes()[: journal.ids_bytes].decode("utf-8").split("\n")[:-1]
    at, earlier = journal.first, set(ids[: journal.first])
    half = np.zeros((journal.objects, journal.features), "<f2")
    with source.rows(FIRST) as rows:
        for row in rows:
            if row.position.item > journal.item:
                break
            if isinstance(row, BadRow) or row.image in earlier or row.features.shape[1] != journal.features:
                continue  # it was left out before too; if it was not, the counts below differ
            count = min(len(row.boxes), journal.objects)
            half[:] = 0
            to_half(row.features[:count], half[:count])
            if not np.isfinite(half).all():
                continue
            if (
                at >= journal.images
                or row.image != ids[at]
                or not (
                    np.array_equal(half, features[at])
                    and np.array_equal(row.boxes[:count], boxes[at][:count])
                    and not boxes[at][count:].any()
                )
            ):
                raise _changed(source, journal, part)
            earlier.add(row.image)
            at += 1
    if at != journal.images:
        raise _changed(source, journal, part)


def _changed(source: RegionSource, journal: Journal, part: Path) -> DataError:
    """Return the error for a source that has changed before the position up to which it was converted."""
    return DataError(
        f"{source.where}: has changed since it was converted up to {source.unit} {journal.item:,}; delete {part} "
        "to begin again"
    )


def _has_options(made: Journal | StoreRecord, options: StoreOptions) -> bool:
    """Return whether a store was made with these regions of an image, this reading of sources, and this extractor."""
    has_same = (made.objects, made.reading) == (options.objects, options.reading)
    return has_same and is_same_extractor(made.made_by, options.extractor)


def _name_options(made: Journal | StoreRecord) -> str:
    """Return these options as text, as on the command line."""
    version = f" (version {made.extractor.version})" if made.extractor and made.extractor.version else ""
    return f"--objects {made.objects} {made.reading}{version}".strip()


def _feature_size(sources: Sequence[RegionSource], *, skip_bad: bool) -> int:
    """Return the number of features F of the first good row.

    Raises DataError if there is no good row, or, unless `skip_bad`, if a bad row comes first.
    """
    for source in sources:
        with source.rows(FIRST) as rows:
            for row in rows:
                if isinstance(row, RegionRow):
                    return row.features.shape[1]
                if not skip_bad:
                    raise DataError(_complaint(source, row))
    raise DataError(f"{sources[0].where}: has no usable row; give a source with good rows of region features")


def _seen(part: Path, journal: Journal) -> set[str]:
    """Return the ids of the images that are stored in `part` already."""
    if not journal.ids_bytes:
        return set()
    with (part / IDS).open("rb") as file:
        return set(file.read(journal.ids_bytes).decode("utf-8").removesuffix("\n").split("\n"))


def _check_same(row: RegionRow | BadRow | None, journal: Journal, source: RegionSource, part: Path) -> None:
    """Raise DataError unless `row` is of the same image as the last row that was stored before the interruption."""
    if row is None or row.image != journal.image:
        raise _changed(source, journal, part)


def _check_space(out: Path, part: Path, sources: Sequence[RegionSource], journal: Journal) -> None:
    """Raise DataError if the disk has no room for the store."""
    images = sum(source.about_images() for source in sources)
    need = images * (2 * journal.objects * journal.features + 16 * journal.objects + 64)
    have = sum(file.stat().st_size for file in part.iterdir() if file.is_file())
    free = shutil.disk_usage(part).free
    if need > free + have:
        raise DataError(
            f"{out}: needs about {need / 1e9:.1f} GB ({images:,} images), and its disk has {free / 1e9:.1f} GB "
            "left; free some space, or give an --out on another disk"
        )


def _finished(
    out: Path, files: list[SourceFile], origins: Sequence[Origin], options: StoreOptions
) -> StoreRecord | None:
    """Return the record of `out` if the store is finished there; None if `out` is absent or empty.

    Raises DataError if `out` is anything else, or a store of other sources or options.
    """
    if (out / RECORD).is_file():
        record = read_store_record(out)
        is_alike = [source.name for source in record.sources] == [file.name for file in files]
        if is_alike and _has_options(record, options):
            triples = zip(record.sources, files, origins, strict=True)
            changed = next(
                (path for kept, now, path in triples if not is_same(kept, now, path, made=out / RECORD)), None
            )
            if changed is None:
                return record
            raise DataError(
                f"{out}: {describe_origin(changed)} has changed since this store was made from it; delete {out}, or "
                "give another --out"
            )
        made_of = ", ".join(file.name for file in record.sources)
        raise DataError(
            f"{out}: was made from {made_of} with {_name_options(record)}; delete it, or give another --out"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not a store; give another --out")
    return None


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Make the folder `part` of an unfinished store, and lock it for one conversion.

    Raises DataError if another conversion holds the lock, or if the folder has a file that no conversion writes.
    """
    with explain_write_errors(part):
        part.mkdir(parents=True, exist_ok=True)
    remove_stale(part)
    names = [file.name for file in part.iterdir()]
    strange = [name for name in names if name not in PARTS and not name.startswith(PREFIX)]
    if strange:
        raise DataError(
            f"{part}: has {strange[0]}, which lxcompress did not write; move it away, or give another --out"
        )
    try:
        with explain_write_errors(part):
            lock = take_lock(part / LOCK)
    except (BusyError, FileNotFoundError):  # FileNotFoundError: the other conversion has just ended
        raise DataError(f"{part}: another conversion is running; wait for it, or give another --out") from None
    try:
        yield
    finally:
        os.close(lock)
