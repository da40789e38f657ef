"""Where the measurements of artifacts are kept."""

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
"""What samples are kept at, at most: a bench of an hour keeps 180 MB on the way."""


def run_of(artifacts: Sequence[Path]) -> RunDir | None:
    """The one run folder in whose `artifacts` all of them lie, or None."""
    homes = {path.resolve().parent for path in artifacts}
    if len(homes) != 1:
        return None
    home = homes.pop()
    run = RunDir(home.parent)
    return run if home == run.artifacts and run.recipe.is_file() else None


def find_stale(artifacts: Sequence[Path]) -> list[Path]:
    """Return those of the artifacts whose measurements, in their run folder, are all of files that they were before.

    Raises RunError for a damaged bench.
    """
    stale = []
    for folder in artifacts:
        run = run_of([folder])
        benches = [read_record(path, BenchRecord) for path in run.bench_records()] if run else []
        measured = [each for bench in benches for each in bench.measurements if each.artifact == folder.resolve().name]
        digest = sha256(folder / ARTIFACT_FILE) if measured else ""
        if measured and all(each.artifact_sha256 != digest for each in measured):
            stale.append(folder)
    return stale


def name_bench(run: RunDir, started: datetime, *, device: str | None = None) -> Path:
    """A free file name in the run folder for the bench that started then, in UTC; no other bench gets it.

    What was measured on another `device` lies apart, in its own folder: no report puts two machines in one table.
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
    """A file beside the bench's, `NAME.json.unfinished`, that samples are appended to as they come.

    A line holds the whole bench so far, and the last whole line counts: what a kill or a full disk cuts off is only a
    line's end. It is locked while the bench is at work, and removed when the bench is saved.
    """

    path: Path
    descriptor: int
    next_s: float = 0.0
    problem: OSError | None = None

    def keep(self, get: Callable[[], BenchRecord]) -> None:
        """Append the bench so far, unless that was done just before; a disk that is full is told at the end."""
        now = time.monotonic()
        if now < self.next_s:
            return
        line = b"\n" + get().model_dump_json().encode() + b"\n"
        try:
            os.write(self.descriptor, line)
        except OSError as problem:
            self.problem = problem
        # Rarer as lines grow longer, so that the file grows no faster than the samples do.
        took = time.monotonic() - now
        self.next_s = now + max(KEEP_S, len(line) / BYTES_A_SECOND, 50 * took)


@contextmanager
def samples_kept(path: Path) -> Iterator[SampleFile]:
    """Hold the file of unfinished samples of the bench file `path`. Raises MeasureError if another bench holds it."""
    unfinished = unfinished_of(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = take_lock(unfinished)
        except BusyError:
            raise MeasureError(f"{path}: another bench is at work on it; wait for it, or give another --out") from None
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

    Where that fails the samples go to the folder for temporary files, and the WriteError says so.
    """
    try:
        write_record(path, bench)
    except WriteError as error:
        raise WriteError(f"{str(error).partition(';')[0]}; {_rescue(path, bench, samples)}") from None
    samples.path.unlink(missing_ok=True)


def recover(folder: Path) -> list[Path]:
    """Save the benches in `folder` that a kill cut short, each under its own name, and return those files."""
    found = []
    for unfinished in sorted(folder.glob(f"*.json{UNFINISHED}")):
        try:
            descriptor = take_lock(unfinished, is_needed=True)
        except (BusyError, OSError):  # at work, or not ours to read
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
    """Return the bench in the last whole line of a file of unfinished samples; None if it has no whole line."""
    try:
        lines = read_bytes(path).split(b"\n")
    except (OSError, ValueError) as problem:
        raise MeasureError(f"{path}: cannot be read ({problem}); remove it") from None
    for line in reversed(lines):
        if line:
            try:
                return BenchRecord.model_validate_json(line)
            except ValidationError:  # the line that was being written
                continue
    return None


def unfinished_of(path: Path) -> Path:
    """Return where the samples for the bench file `path` are while it is not finished."""
    return path.with_name(path.name + UNFINISHED)


def _reserve(path: Path) -> bool:
    """Whether no other bench has the name: its file of unfinished samples is new."""
    try:
        unfinished_of(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _rescue(path: Path, bench: BenchRecord, samples: SampleFile) -> str:
    """Save `bench` anywhere else, and say where its samples are."""
    folder = Path(tempfile.gettempdir())
    aside = folder / f"lxcompress-{os.getpid()}-{path.name}"
    try:
        write_record(aside, bench)
    except WriteError:
        return f"make room: the samples up to the last time there was some are in {samples.path}, and all are above"
    return f"all samples are in {aside}: make room, and move them there"
