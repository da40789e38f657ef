"""Parcels: the files of a task, as they travel between machines without a common folder, with their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lxcompress.errors import RunError
from lxcompress.filenames import CHECKPOINT_FILE
from lxcompress.rundir import RunDir, write_whole
from lxcompress.study.run import LAST_FILES
from lxcompress.study.tasks import StudyTask, folder_of
from lxcompress.writing import PREFIX

LAST_NAMES = frozenset(LAST_FILES.values())


@dataclass(frozen=True)
class ParcelFile:
    """A file of a run folder: its path in the folder, its SHA-256, and its bytes as an array that is not copied."""

    name: str
    sha256: str
    data: NDArray[np.uint8]


@dataclass(frozen=True)
class Parcel:
    """The files of one task, in the order in which they are written: the file that shows that it is done is last."""

    files: tuple[ParcelFile, ...]

    @property
    def size_bytes(self) -> int:
        """Return the number of bytes of all files."""
        return sum(file.data.nbytes for file in self.files)


def pack(run: RunDir, task: StudyTask) -> Parcel:
    """Read the files that a task, which is done, has written to its run folder."""
    paths = [path for path in folder_of(run, task).iterdir() if path.is_file() and path.name != CHECKPOINT_FILE]
    above = run.start(task.seed).parent
    if task.kind == "dense":
        paths += [path for path in above.iterdir() if path.is_file()]
    elif task.kind != "round":
        paths += above.glob("sensitivity-*.json")
    paths = [path for path in paths if not path.name.startswith(PREFIX) and not path.name.endswith(".again")]
    files = []
    for path in sorted(paths, key=lambda path: (path.name in LAST_NAMES and path.parent != above, path)):
        data = np.fromfile(path, np.uint8)
        files.append(ParcelFile(path.relative_to(run.root).as_posix(), _digest(data), data))
    return Parcel(tuple(files))


def unpack(parcel: Parcel, root: Path) -> None:
    """Write the files of a parcel into a run folder, each as one atomic write, in the parcel's order.

    Raises RunError before anything is written if a file was damaged on its way.
    """
    _check(parcel.files)
    for file in parcel.files:
        path = root / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda part, data=file.data: data.tofile(part))  # type: ignore[misc]


def _check(files: Sequence[ParcelFile]) -> None:
    """Raise RunError for a file whose bytes do not have its checksum."""
    for file in files:
        if _digest(file.data) != file.sha256:
            raise RunError(f"{file.name}: was damaged on its way between two machines; it is sent again")


def _digest(data: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an array of bytes."""
    return hashlib.sha256(data.data).hexdigest()
