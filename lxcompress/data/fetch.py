"""Fetch the data sets of the catalogue: plan, download, check, unpack, and record the checksums.

The files of the collection NAME, and the files unpacked from them, go to FOLDER/NAME. FOLDER/checksums.json has the
SHA-256 of each downloaded file. If no checksum is published, the first download is trusted; later ones must equal it.
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
from lxcompress.data.download import PAUSES_S, DownloadRequest, download, forget, part_of
from lxcompress.data.unpack import check_zip, is_content, is_unpacked, read_through, sum_content, unpack
from lxcompress.errors import DataError
from lxcompress.progress import Progress, relabel
from lxcompress.records import Count, FileName, FileRecord, Record, Sha256, read_record
from lxcompress.rundir import write_record
from lxcompress.units import size_text

PIECE_BYTES = 1 << 20
State = Literal["there", "packed", "partly", "missing"]


class ChecksumRecord(Record):
    """The record of a downloaded file.

    For the files that were unpacked from a zip, `unpacked` has path in the zip -> bytes, and `crc32` path -> CRC-32.
    """

    address: str
    size_bytes: Count
    sha256: Sha256
    unpacked: dict[FileName, Count] = Field(default_factory=dict)
    crc32: dict[FileName, Count] = Field(default_factory=dict)


class Checksums(FileRecord):
    """The contents of FOLDER/checksums.json: NAME/FILE -> the record of the downloaded file."""

    files: dict[FileName, ChecksumRecord] = Field(default_factory=dict)


@dataclass(frozen=True)
class FetchStep:
    """A file to fetch, its target path, and how many bytes of it exist.

    `state` is one of: there, packed (a zip that is not unpacked yet), partly (an interrupted download), missing.
    """

    collection: str
    remote: RemoteFile
    target: Path
    state: State
    have_bytes: int

    @property
    def key(self) -> str:
        """Return the key of the file in checksums.json."""
        return f"{self.collection}/{self.remote.name}"


@dataclass(frozen=True)
class FetchResult:
    """A fetched file. Its checksum equals the published one (`is_published`), or else that of the first download."""

    target: Path
    sha256: str
    was_there: bool
    is_published: bool


def checksums_path(folder: Path) -> Path:
    """Return the path of the file with the checksums of all files that were fetched to `folder`."""
    return folder / "checksums.json"


def plan(names: Sequence[str], folder: Path, *, catalogue: Mapping[str, Collection] = CATALOGUE) -> list[FetchStep]:
    """Return the steps to fetch the collections `names` to `folder`; only the disk is read, not the network.

    Raises DataError for an unknown name.
    """
    kept = _read_checksums(folder).files
    steps = []
    for name in dict.fromkeys(names):
        for remote in _find(name, catalogue).files:
            target = folder / name / remote.name
            state, have = _find_state(remote, target, kept.get(f"{name}/{remote.name}"))
            steps.append(FetchStep(collection=name, remote=remote, target=target, state=state, have_bytes=have))
    return steps


def missing_bytes(steps: Sequence[FetchStep], *, catalogue: Mapping[str, Collection] = CATALOGUE) -> int:
    """Return how many bytes are still to be downloaded; files of unknown size are left out."""
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
    """Fetch the collections `names` to `folder`: check files that exist, and resume interrupted downloads.

    Raises DataError for the first file that cannot be downloaded, or whose checksum is not the published or the earlier
    one.
    """
    steps = plan(names, folder, catalogue=catalogue)
    wanted, free = missing_bytes(steps, catalogue=catalogue), free_bytes(folder)
    if wanted > free:
        raise DataError(
            f"{folder}: needs {size_text(wanted)} more, and its disk has {size_text(free)} left; "
            "free some space, or give another --to"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        return [_fetch_step(step, folder, catalogue[step.collection], progress, pauses_s) for step in steps]


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`, which may not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def remote_size_text(remote: RemoteFile) -> str:
    """Return the size of a file as text: exact, rounded ("about"), or "unknown"."""
    if remote.size_bytes is not None:
        return size_text(remote.size_bytes)
    return "unknown" if remote.about_bytes is None else f"about {size_text(remote.about_bytes)}"


def collection_size_text(collection: Collection) -> str:
    """Return the total size of a collection as text; it says how many files have an unknown size."""
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


def _fetch_step(
    step: FetchStep, folder: Path, collection: Collection, progress: Progress, pauses_s: Sequence[float]
) -> FetchResult:
    """Do one step: download or check the file, unpack it if it is to be unpacked, and record its checksum."""
    checksums = _read_checksums(folder)
    kept = checksums.files.get(step.key)
    if kept is not None and kept.address != step.remote.address:
        kept = None  # this version of the catalogue has another address for the file
    was_there = step.target.is_file()
    if kept is not None and not was_there and _is_kept(kept, step.target.parent):
        return _fetched(step, kept.sha256, was_there=True)
    sha256 = _check_there(step, kept, progress) if was_there else _download(step, kept, collection, progress, pauses_s)
    unpacked = _unpack(step, progress)
    now = ChecksumRecord(
        address=step.remote.address, size_bytes=step.target.stat().st_size, sha256=sha256, unpacked=unpacked
    )
    now = now.model_copy(update={"crc32": {name: sum_content(step.target.parent / name) for name in unpacked}})
    if now != kept:
        write_record(checksums_path(folder), Checksums(files={**checksums.files, step.key: now}))
    return _fetched(step, sha256, was_there=was_there)


def _is_kept(kept: ChecksumRecord, folder: Path) -> bool:
    """Return whether all files unpacked from a deleted zip still exist, with the recorded sizes and CRC-32."""
    return is_unpacked(kept.unpacked, folder) and is_content(kept.crc32, folder)


def _download(
    step: FetchStep, kept: ChecksumRecord | None, collection: Collection, progress: Progress, pauses_s: Sequence[float]
) -> str:
    """Download a file, check it, and move it to its target; return its SHA-256."""
    part, wanted = part_of(step.target), _wanted(step, kept)
    also = f" (its authors also keep it at {collection.elsewhere})" if collection.elsewhere else ""
    remedy = f"try again later, or download it elsewhere{also}, save it as {step.target} and run the same command"

    request = DownloadRequest(step.remote.address, step.target, step.remote.size_bytes, wanted is not None, remedy)

    def bring() -> tuple[str, bool]:
        is_mixed = download(request, relabel(progress, f"downloading {step.key}"), pauses_s)
        return _digest(part, relabel(progress, f"checking {step.key}")), is_mixed

    sha256, is_mixed = bring()
    if wanted not in (None, sha256) and is_mixed:
        forget(step.target)  # the pieces may be from two versions: download it again in one piece
        sha256, _ = bring()
    try:
        if wanted not in (None, sha256):
            raise DataError(
                f"{step.remote.address}: has the SHA-256 {sha256}, but {_origin(step)} {wanted}; "
                f"the downloaded file was deleted; {remedy}"
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
    """Return the SHA-256 of a file that exists. If it is not the expected file, rename it and raise DataError."""
    wanted = _wanted(step, kept)
    size = step.target.stat().st_size
    sha256 = _digest(step.target, relabel(progress, f"checking {step.key}"))
    if wanted not in (None, sha256) or step.remote.size_bytes not in (None, size):
        aside = step.target.with_name(step.target.name + ".damaged")
        os.replace(step.target, aside)
        what = f"SHA-256 {sha256}, but {_origin(step)} {wanted}" if wanted else f"{size:,} bytes"
        raise DataError(
            f"{step.target}: is not the expected file ({what}); it was renamed to {aside.name}, "
            "and running the same command downloads it again"
        )
    _check_zip(step.target, step, progress, is_trusted=wanted is not None)
    return sha256


def _check_zip(path: Path, step: FetchStep, progress: Progress, *, is_trusted: bool) -> None:
    """Raise DataError for a zip that is damaged, or that would be unpacked outside its folder.

    If no checksum is known (`is_trusted` is false), the whole zip is read, to compare the CRC of each file in it.
    """
    if not step.remote.name.endswith(".zip"):
        return
    check_zip(path, step.remote.unpack, step.target.parent, label=step.remote.address)
    if not is_trusted:
        read_through(path, label=step.remote.address, progress=relabel(progress, f"checking {step.key}"))


def _unpack(step: FetchStep, progress: Progress) -> dict[str, int]:
    """Unpack the files that the catalogue names; return path in the zip -> number of bytes."""
    if not step.remote.unpack:
        return {}
    return unpack(
        step.target,
        step.remote.unpack,
        step.target.parent,
        label=str(step.target),
        progress=relabel(progress, f"unpacking {step.key}"),
    )


def _find_state(remote: RemoteFile, target: Path, kept: ChecksumRecord | None) -> tuple[State, int]:
    """Return the state of a file (see FetchStep), and how many bytes of it exist."""
    if target.is_file():
        is_packed = bool(remote.unpack) and not (kept is not None and is_unpacked(kept.unpacked, target.parent))
        return ("packed" if is_packed else "there"), target.stat().st_size
    if kept is not None and kept.address == remote.address and is_unpacked(kept.unpacked, target.parent):
        return "there", kept.size_bytes
    part = part_of(target)
    return ("partly", part.stat().st_size) if part.is_file() else ("missing", 0)


def _wanted(step: FetchStep, kept: ChecksumRecord | None) -> str | None:
    """Return the SHA-256 that a file must have: the published one, or that of the first download; None if unknown."""
    return step.remote.sha256 or (None if kept is None else kept.sha256)


def _origin(step: FetchStep) -> str:
    """Return the part of an error message that says where the expected checksum is from."""
    return "the published one is" if step.remote.sha256 else "that of the first download was"


def _fetched(step: FetchStep, sha256: str, *, was_there: bool) -> FetchResult:
    """Return the FetchResult of a step."""
    return FetchResult(
        target=step.target, sha256=sha256, was_there=was_there, is_published=step.remote.sha256 is not None
    )


def _expected(remote: RemoteFile) -> int | None:
    """Return the exact or the rounded size of a file in bytes; None if unknown."""
    return remote.size_bytes if remote.size_bytes is not None else remote.about_bytes


def _digest(path: Path, progress: Progress) -> str:
    """Return the SHA-256 of a file; report progress, because the file may be large."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            progress("checking", done, total)
    return digest.hexdigest()


def _read_checksums(folder: Path) -> Checksums:
    """Return the Checksums in `folder`; empty ones if there is no such file."""
    path = checksums_path(folder)
    return read_record(path, Checksums, DataError) if path.exists() else Checksums()


def _find(name: str, catalogue: Mapping[str, Collection]) -> Collection:
    """Return a collection of the catalogue. Raises DataError for an unknown name, and proposes the most similar one."""
    if name in catalogue:
        return catalogue[name]
    near = difflib.get_close_matches(name, catalogue, n=1)
    meant = f"did you mean {near[0]}?" if near else "give one of these"
    raise DataError(f"{name}: is not in the catalogue; {meant} ({', '.join(catalogue)})")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock `folder`, so that two fetches do not write to the same files. Raises DataError if it is locked already."""
    try:
        with FileLock(folder / ".fetch.lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"{folder}: another fetch is running in it; wait for it, or give another --to") from None
