"""Save benches: name their files, keep samples while a bench runs, and recover interrupted benches."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.records import BenchRecord, read_record
from lxcompress.rundir import RunDir, sha256, write_record
from lxcompress.text import read_bytes
from lxcompress.writing import BusyError, WriteError, explain_write_errors, take_lock

UNFINISHED = ".unfinished"
KEEP_S = 5.0
BYTES_A_SECOND = 50_000
"""The limit of writing samples while a bench runs: a bench of an hour writes 180 MB."""


def find_common_run(artifacts: Sequence[Path]) -> RunDir | None:
    """Return the run folder whose `artifacts` folder holds all of them, or None."""
    homes = {path.resolve().parent for path in artifacts}
    if len(homes) != 1:
        return None
    home = homes.pop()
    run = RunDir(home.parent)
    return run if home == run.artifacts and run.recipe.is_file() else None


def find_stale(artifacts: Sequence[Path]) -> list[Path]:
    """Return the artifacts that have measurements in their run folder, but none of their present files.

    Raises RunError for a damaged bench.
    """
    stale = []
    for folder in artifacts:
        run = find_common_run([folder])
        benches = [read_record(path, BenchRecord) for path in run.bench_records()] if run else []
        name = folder.resolve().name
        measured = [found for bench in benches for found in bench.measurements if found.artifact == name]
        digest = sha256(folder / ARTIFACT_FILE) if measured else ""
        if measured and all(found.artifact_sha256 != digest for found in measured):
            stale.append(folder)
    return stale


def name_bench(run: RunDir, started: datetime, *, device: str | None = None) -> Path:
    """Reserve a file name in the run folder for a bench, and return it; the name has the time `started`, in UTC.

    A bench of another `device` goes into that device's folder, because no report puts two machines into one table.
    """
    folder = run.measurements / "devices" / device.replace(" ", "-") if device else run.measurements
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{started:%Y%m%dT%H%M%SZ}"
        path = folder / f"{stem}.json"
        again = 2
        while path.exists() or not _reserve(path):
            path = folder / f"{stem}-{again}.json"
            again += 1
    return path


@dataclass
class SampleFile:
    """The file `NAME.json.unfinished` in the bench's folder, to which samples are appended while the bench runs.

    Each line holds the whole bench so far, and the last complete line counts, so that a kill or a full disk truncates
    one line only. The file is locked while the bench runs, and removed when the bench is saved.
    """

    path: Path
    descriptor: int
    next_s: float = 0.0
    problem: OSError | None = None

    def keep(self, get: Callable[[], BenchRecord]) -> None:
        """Append the bench so far, unless that was done shortly before; a full disk is reported at the end."""
        now = time.monotonic()
        if now < self.next_s:
            return
        line = b"\n" + get().model_dump_json().encode() + b"\n"
        try:
            os.write(self.descriptor, line)
        except OSError as problem:
            self.problem = problem
        # The longer the lines, the rarer they are, so that the file grows no faster than the samples.
        took = time.monotonic() - now
        self.next_s = now + max(KEEP_S, len(line) / BYTES_A_SECOND, 50 * took)


@contextmanager
def lock_samples(path: Path) -> Iterator[SampleFile]:
    """Lock the file of unfinished samples of the bench file `path`. Raises MeasureError if another bench holds it."""
    unfinished = unfinished_path(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = take_lock(unfinished)
        except BusyError:
            raise MeasureError(f"{path}: another bench is writing it; wait for it, or give another --out") from None
        os.lseek(descriptor, 0, os.SEEK_END)
    try:
        yield SampleFile(unfinished, descriptor)
    finally:
        with suppress(OSError):
            if not os.fstat(descriptor).st_size:
                unfinished.unlink(missing_ok=True)
        os.close(descriptor)


def save_bench(path: Path, bench: BenchRecord, samples: SampleFile) -> None:
    """Write `bench` to `path`, and remove its unfinished samples.

    If that fails, the samples go to the folder for temporary files, and the WriteError says so.
    """
    try:
        write_record(path, bench)
    except WriteError as error:
        raise WriteError(f"{str(error).partition(';')[0]}; {_rescue(path, bench, samples)}") from None
    samples.path.unlink(missing_ok=True)


def recover(folder: Path) -> list[Path]:
    """Save the benches in `folder` that were killed, each under its own name, and return those files."""
    found = []
    for unfinished in sorted(folder.glob(f"*.json{UNFINISHED}")):
        try:
            descriptor = take_lock(unfinished, is_needed=True)
        except (BusyError, OSError):  # still running, or not readable for this user
            continue
        try:
            path, bench = unfinished.with_name(unfinished.name.removesuffix(UNFINISHED)), read_unfinished(unfinished)
            if bench is not None and not path.exists():
                write_record(path, bench)
                found.append(path)
            unfinished.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return found


def read_unfinished(path: Path) -> BenchRecord | None:
    """Return the bench in the last complete line of a file of unfinished samples; None if it has none."""
    try:
        lines = read_bytes(path).split(b"\n")
    except (OSError, ValueError) as problem:
        raise MeasureError(f"{path}: cannot be read ({problem}); remove it") from None
    for line in reversed(lines):
        if line:
            try:
                return BenchRecord.model_validate_json(line)
            except ValidationError:  # the line was truncated
                continue
    return None


def unfinished_path(path: Path) -> Path:
    """Return the file of unfinished samples of the bench file `path`."""
    return path.with_name(path.name + UNFINISHED)


def _reserve(path: Path) -> bool:
    """Create the file of unfinished samples, and return whether no other bench had it."""
    try:
        unfinished_path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _rescue(path: Path, bench: BenchRecord, samples: SampleFile) -> str:
    """Save `bench` in the folder for temporary files, and return a clause that says where its samples are."""
    folder = Path(tempfile.gettempdir())
    other = folder / f"lxcompress-{os.getpid()}-{path.name}"
    try:
        write_record(other, bench)
    except WriteError:
        return f"free some space: the samples until the disk was full are in {samples.path}, and all results are above"
    return f"all samples are in {other}: free some space, and move that file"
