"""Fetching what the catalogue names: planned, downloaded, checked, unpacked, and remembered by checksum.

A file of NAME goes to FOLDER/NAME, and so does what a zip is unpacked to. FOLDER/checksums.json keeps the SHA-256 of
each file: where none is published, the first download is trusted, and whatever comes later must equal it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field

from lxcompress.data.catalogue import CATALOGUE, Collection, RemoteFile
from lxcompress.data.download import PAUSES_S, download, forget, part_of
from lxcompress.data.unpack import check_zip, is_content, is_unpacked, read_through, sum_content, unpack
from lxcompress.errors import DataError
from lxcompress.progress import Progress, relabel
from lxcompress.records import Count, FileName, FileRecord, Record, Sha256, read_record
from lxcompress.rundir import write_record
from lxcompress.units import size_text

PIECE_BYTES = 1 << 20
State = Literal["there", "packed", "partly", "missing"]


class ChecksumRecord(Record):
    """A file that came whole: `unpacked` holds the bytes of each member that was unpacked, by its path in the zip, and
    `crc32` what it holds."""

    address: str
    size_bytes: Count
    sha256: Sha256
    unpacked: dict[FileName, Count] = Field(default_factory=dict)
    crc32: dict[FileName, Count] = Field(default_factory=dict)


class Checksums(FileRecord):
    """FOLDER/checksums.json: NAME/FILE -> what was fetched."""

    files: dict[FileName, ChecksumRecord] = Field(default_factory=dict)


@dataclass(frozen=True)
class FetchStep:
    """A file to fetch, where it will be, and how much of it is there.

    `state`: there; packed, a zip that is yet to be unpacked; partly, a download that was cut off; or missing.
    """

    collection: str
    remote: RemoteFile
    target: Path
    state: State
    have_bytes: int

    @property
    def key(self) -> str:
        """What checksums.json calls the file."""
        return f"{self.collection}/{self.remote.name}"


@dataclass(frozen=True)
class FetchResult:
    """A file that is there, checked: by a published checksum, or by the one of its first download."""

    target: Path
    sha256: str
    was_there: bool
    is_published: bool


def checksums_path(folder: Path) -> Path:
    """Where `folder` remembers the checksums of what was fetched to it."""
    return folder / "checksums.json"


def plan(names: Sequence[str], folder: Path, *, catalogue: Mapping[str, Collection] = CATALOGUE) -> list[FetchStep]:
    """What fetching `names` to `folder` means, by looking at the disk alone. Raises DataError for an unknown name."""
    kept = _read_checksums(folder).files
    steps = []
    for name in dict.fromkeys(names):
        for remote in _find(name, catalogue).files:
            target = folder / name / remote.name
            state, have = _look(remote, target, kept.get(f"{name}/{remote.name}"))
            steps.append(FetchStep(collection=name, remote=remote, target=target, state=state, have_bytes=have))
    return steps


def missing_bytes(steps: Sequence[FetchStep], *, catalogue: Mapping[str, Collection] = CATALOGUE) -> int:
    """How much is yet to come, as far as sizes are known."""
    total = 0
    for name in dict.fromkeys(step.collection for step in steps):
        mine = [step for step in steps if step.collection == name]
        coming = [step for step in mine if step.state in ("partly", "missing")]
        whole = catalogue[name].about_bytes
        if coming and whole is not None:
            total += max(0, whole - sum(step.have_bytes for step in mine))
        else:
            total += sum(max(0, (_expected(step.remote) or 0) - step.have_bytes) for step in coming)
    return total


def fetch(
    names: Sequence[str],
    folder: Path,
    *,
    progress: Progress,
    catalogue: Mapping[str, Collection] = CATALOGUE,
    pauses_s: Sequence[float] = PAUSES_S,
) -> list[FetchResult]:
    """Brings `names` to `folder`; what is there already is checked, and what was cut off goes on.

    Raises DataError at the first file that cannot be had, or is not what was published or came before.
    """
    steps = plan(names, folder, catalogue=catalogue)
    wanted, free = missing_bytes(steps, catalogue=catalogue), free_bytes(folder)
    if wanted > free:
        raise DataError(
            f"{folder}: {size_text(wanted)} are to come, and its disk has {size_text(free)} left; "
            "make room, or give another --to"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return [_bring(step, folder, catalogue[step.collection], progress, pauses_s) for step in steps]


def free_bytes(folder: Path) -> int:
    """What the disk has left on which `folder` is, or would be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def remote_size_text(remote: RemoteFile) -> str:
    """The size of a file as far as it is known."""
    if remote.size_bytes is not None:
        return size_text(remote.size_bytes)
    return "unknown" if remote.about_bytes is None else f"about {size_text(remote.about_bytes)}"


def collection_size_text(collection: Collection) -> str:
    """The size of a collection's files together, as far as it is known."""
    if collection.about_bytes is not None:
        return f"about {size_text(collection.about_bytes)}"
    known = [size for size in map(_expected, collection.files) if size is not None]
    if not known:
        return "unknown"
    about = (
        "" if all(file.size_bytes is not None or file.about_bytes is None for file in collection.files) else "about "
    )
    unknown = len(collection.files) - len(known)
    return f"{about}{size_text(sum(known))}{f' + {unknown} unknown' if unknown else ''}"


def _bring(
    step: FetchStep, folder: Path, collection: Collection, progress: Progress, pauses_s: Sequence[float]
) -> FetchResult:
    """One step, to its end: the file checked in its place, unpacked where it should be, and remembered."""
    checksums = _read_checksums(folder)
    kept = checksums.files.get(step.key)
    if kept is not None and kept.address != step.remote.address:
        kept = None  # this version of the catalogue names another file
    was_there = step.target.is_file()
    if kept is not None and not was_there and _is_kept(kept, step.target.parent):
        return _fetched(step, kept.sha256, was_there=True)
    sha256 = _check_there(step, kept, progress) if was_there else _come(step, kept, collection, progress, pauses_s)
    unpacked = _unpack(step, progress)
    now = ChecksumRecord(
        address=step.remote.address, size_bytes=step.target.stat().st_size, sha256=sha256, unpacked=unpacked
    )
    now = now.model_copy(update={"crc32": {name: sum_content(step.target.parent / name) for name in unpacked}})
    if now != kept:
        write_record(checksums_path(folder), Checksums(files={**checksums.files, step.key: now}))
    return _fetched(step, sha256, was_there=was_there)


def _is_kept(kept: ChecksumRecord, folder: Path) -> bool:
    """Whether what was unpacked of a zip that is gone is still there, by its content where that is known."""
    return is_unpacked(kept.unpacked, folder) and is_content(kept.crc32, folder)


def _come(
    step: FetchStep, kept: ChecksumRecord | None, collection: Collection, progress: Progress, pauses_s: Sequence[float]
) -> str:
    """Downloads a file to its place, once it is whole and is the one expected; returns its SHA-256."""
    part, wanted = part_of(step.target), _wanted(step, kept)
    also = f" (its authors also keep it at {collection.elsewhere})" if collection.elsewhere else ""
    remedy = f"try again later, or download it elsewhere{also}, put it at {step.target} and give the same command"

    def bring() -> tuple[str, bool]:
        is_mixed = download(
            step.remote.address,
            step.target,
            size_bytes=step.remote.size_bytes,
            has_checksum=wanted is not None,
            remedy=remedy,
            progress=relabel(progress, f"downloading {step.key}"),
            pauses_s=pauses_s,
        )
        return _digest(part, relabel(progress, f"checking {step.key}")), is_mixed

    sha256, is_mixed = bring()
    if wanted not in (None, sha256) and is_mixed:
        forget(step.target)  # the pieces may be of two files: once more, in one
        sha256, _ = bring()
    try:
        if wanted not in (None, sha256):
            raise DataError(
                f"{step.remote.address}: came with the SHA-256 {sha256}, where {_origin(step)} {wanted}; "
                f"it was removed: {remedy}"
            )
        _check_zip(part, step, progress, is_trusted=wanted is not None)
    except DataError:
        forget(step.target)
        raise
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, step.target)
    forget(step.target)
    return sha256


def _check_there(step: FetchStep, kept: ChecksumRecord | None, progress: Progress) -> str:
    """The SHA-256 of a file that is in its place; a wrong one is moved aside, and DataError raised."""
    wanted = _wanted(step, kept)
    size = step.target.stat().st_size
    sha256 = _digest(step.target, relabel(progress, f"checking {step.key}"))
    if wanted not in (None, sha256) or step.remote.size_bytes not in (None, size):
        aside = step.target.with_name(step.target.name + ".damaged")
        os.replace(step.target, aside)
        what = f"SHA-256 {sha256}, where {_origin(step)} {wanted}" if wanted else f"{size:,} bytes"
        raise DataError(
            f"{step.target}: is not the file that was expected ({what}); it is now {aside.name}, "
            "and the same command fetches another"
        )
    _check_zip(step.target, step, progress, is_trusted=wanted is not None)
    return sha256


def _check_zip(path: Path, step: FetchStep, progress: Progress, *, is_trusted: bool) -> None:
    """A zip must open and stay inside its folder; one without a known checksum is read through, by its own."""
    if not step.remote.name.endswith(".zip"):
        return
    check_zip(path, step.remote.unpack, step.target.parent, label=step.remote.address)
    if not is_trusted:
        read_through(path, label=step.remote.address, progress=relabel(progress, f"checking {step.key}"))


def _unpack(step: FetchStep, progress: Progress) -> dict[str, int]:
    """Unpacks what should be; returns its bytes by path in the zip, none if nothing should."""
    if not step.remote.unpack:
        return {}
    return unpack(
        step.target,
        step.remote.unpack,
        step.target.parent,
        label=str(step.target),
        progress=relabel(progress, f"unpacking {step.key}"),
    )


def _look(remote: RemoteFile, target: Path, kept: ChecksumRecord | None) -> tuple[State, int]:
    """How much of a file is there, and its bytes."""
    if target.is_file():
        is_packed = bool(remote.unpack) and not (kept is not None and is_unpacked(kept.unpacked, target.parent))
        return ("packed" if is_packed else "there"), target.stat().st_size
    if kept is not None and kept.address == remote.address and is_unpacked(kept.unpacked, target.parent):
        return "there", kept.size_bytes
    part = part_of(target)
    return ("partly", part.stat().st_size) if part.is_file() else ("missing", 0)


def _wanted(step: FetchStep, kept: ChecksumRecord | None) -> str | None:
    """The SHA-256 that a file must have: as published, else as it first came; None if neither is known."""
    return step.remote.sha256 or (None if kept is None else kept.sha256)


def _origin(step: FetchStep) -> str:
    return "the published one is" if step.remote.sha256 else "that of the first download was"


def _fetched(step: FetchStep, sha256: str, *, was_there: bool) -> FetchResult:
    return FetchResult(
        target=step.target, sha256=sha256, was_there=was_there, is_published=step.remote.sha256 is not None
    )


def _expected(remote: RemoteFile) -> int | None:
    return remote.size_bytes if remote.size_bytes is not None else remote.about_bytes


def _digest(path: Path, progress: Progress) -> str:
    """The SHA-256 of a file that may be large enough to wait for."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            progress("checking", done, total)
    return digest.hexdigest()


def _read_checksums(folder: Path) -> Checksums:
    path = checksums_path(folder)
    return read_record(path, Checksums, DataError) if path.exists() else Checksums()


def _find(name: str, catalogue: Mapping[str, Collection]) -> Collection:
    if name in catalogue:
        return catalogue[name]
    near = difflib.get_close_matches(name, catalogue, n=1)
    meant = f"did you mean {near[0]}?" if near else "give one of these"
    raise DataError(f"{name}: is not in the catalogue; {meant} ({', '.join(catalogue)})")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds `folder` for one fetch: two would write into the same parts."""
    try:
        with FileLock(folder / ".fetch.lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"{folder}: another fetch is at work in it; wait for it, or give another --to") from None
