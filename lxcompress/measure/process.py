"""A worker: one artifact in a process of its own, which sleeps unless it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lxcompress.errors import MeasureError
from lxcompress.measure.messages import (
    ColdLoad,
    Failure,
    Loaded,
    Message,
    Ready,
    Round,
    Setup,
    Turn,
    read_message,
    write_message,
)

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_LAST_LINES = 3
# glibc raises this as blocks are freed unless it is set. Raised, the peak of one same file was 200 to 257 MB,
# by the length of its path; held at its first value, 164 MB each time, and no timing moved. Others ignore it.
_STEADY_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Worker:
    """A process that has loaded one artifact; `ready` says how that went."""

    process: subprocess.Popen[str]
    errors: IO[bytes]
    path: str
    ready: Ready

    def run(self, lengths: Sequence[int]) -> Round:
        """A timed run for each length, now. Raises MeasureError if the worker has died."""
        reply = _ask(self.process, self.errors, self.path, Turn(list(lengths)))
        assert isinstance(reply, Round)
        return reply


@contextmanager
def started(setup: Setup) -> Iterator[Worker]:
    """A worker that has loaded and warmed up its artifact; its process ends with the block. Raises MeasureError."""
    with _process(setup.threads) as (process, errors):
        ready = _ask(process, errors, setup.path, setup)
        assert isinstance(ready, Ready)
        yield Worker(process, errors, setup.path, ready)


def load_cold(request: ColdLoad) -> Loaded:
    """How long an artifact takes to load that is not in memory, in a process of its own. Raises MeasureError."""
    with _process(request.threads) as (process, errors):
        loaded = _ask(process, errors, request.path, request)
        assert isinstance(loaded, Loaded)
        return loaded


@contextmanager
def _process(threads: int) -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """A fresh worker and the file of its errors; it ends with the block."""
    with tempfile.TemporaryFile() as errors:  # a file, because a full pipe that nobody reads would stop the worker
        process = _spawn(threads, errors)
        try:
            yield process, errors
        finally:
            process.kill()
            process.communicate()


def _spawn(threads: int, errors: IO[bytes]) -> subprocess.Popen[str]:
    """A fresh interpreter, in the folder that holds the package: no file of the user's folder can shadow an import."""
    return subprocess.Popen(
        [sys.executable, "-m", "lxcompress.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        cwd=_PACKAGE_PARENT,
        env={**os.environ, **_STEADY_MEMORY, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers itself
    )


def _ask(process: subprocess.Popen[str], errors: IO[bytes], path: str, request: Message) -> Message:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(write_message(request))
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise MeasureError(_death(process, errors, path))
    reply = read_message(line)
    if isinstance(reply, Failure):
        raise MeasureError(reply.failure)
    return reply


def _death(process: subprocess.Popen[str], errors: IO[bytes], path: str) -> str:
    """What is known of a worker that stopped answering, as one sentence."""
    code = process.wait()
    errors.seek(0)
    said = errors.read().decode("utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = f"its last words: {' / '.join(line.strip() for line in said)}" if said else "it said nothing"
    return (
        f"{path}: the process that measured it died ({how}; {last}); if the system was short of memory, measure fewer "
        "artifacts at a time, else export it again"
    )
