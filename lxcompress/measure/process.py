"""Worker processes: each loads one artifact, and waits until it is asked to run it."""

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
    ColdLoadReply,
    ColdLoadRequest,
    FailureReply,
    Message,
    ReadyReply,
    SetupRequest,
    TurnReply,
    TurnRequest,
    read_message,
    write_message,
)

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_LAST_LINES = 3
# Unless this is set, glibc raises it as blocks are freed. When it did, the peak of the same file varied from 200 to
# 257 MB with the length of its path; with this fixed value it was 164 MB each time, and no timing changed. Other
# allocators ignore it.
_FIXED_TRIM_THRESHOLD = {"MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class WorkerProcess:
    """A process that has loaded one artifact; `ready` is its reply to that."""

    process: subprocess.Popen[str]
    errors: IO[bytes]
    path: str
    ready: ReadyReply

    def run(self, lengths: Sequence[int]) -> TurnReply:
        """Make a timed run for each length. Raises MeasureError if the process has died."""
        reply = _request(self.process, self.errors, self.path, TurnRequest(list(lengths)))
        assert isinstance(reply, TurnReply)
        return reply


@contextmanager
def start_worker(setup: SetupRequest) -> Iterator[WorkerProcess]:
    """Yield a worker with its artifact loaded and warm; its process ends with the block. Raises MeasureError."""
    with _open_process(setup.threads) as (process, errors):
        ready = _request(process, errors, setup.path, setup)
        assert isinstance(ready, ReadyReply)
        yield WorkerProcess(process, errors, setup.path, ready)


def load_cold(request: ColdLoadRequest) -> ColdLoadReply:
    """Time one load of an artifact outside the page cache, in its own process. Raises MeasureError."""
    with _open_process(request.threads) as (process, errors):
        reply = _request(process, errors, request.path, request)
        assert isinstance(reply, ColdLoadReply)
        return reply


@contextmanager
def _open_process(threads: int) -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """Yield a new worker process and the file of its standard error; the process ends with the block."""
    with tempfile.TemporaryFile() as errors:  # a file: a full pipe that nobody reads would block the worker
        process = _spawn(threads, errors)
        try:
            yield process, errors
        finally:
            process.kill()
            process.communicate()


def _spawn(threads: int, errors: IO[bytes]) -> subprocess.Popen[str]:
    """Start an interpreter in the folder of the package, so that no file of the user's folder shadows an import."""
    return subprocess.Popen(
        [sys.executable, "-m", "lxcompress.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        cwd=_PACKAGE_PARENT,
        env={
            **os.environ,
            **_FIXED_TRIM_THRESHOLD,
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
        },
        start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers
    )


def _request(process: subprocess.Popen[str], errors: IO[bytes], path: str, request: Message) -> Message:
    """Send `request` and return the reply. Raises MeasureError for a failure, or if the process has died."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(write_message(request))
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise MeasureError(_describe_death(process, errors, path))
    reply = read_message(line)
    if isinstance(reply, FailureReply):
        raise MeasureError(reply.failure)
    return reply


def _describe_death(process: subprocess.Popen[str], errors: IO[bytes], path: str) -> str:
    """Return one sentence on a worker that stopped: its exit code or signal, and its last lines."""
    code = process.wait()
    errors.seek(0)
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = f"its last output: {' / '.join(line.strip() for line in lines)}" if lines else "it printed nothing"
    return (
        f"{path}: the process that measured it died ({how}; {last}); if the system was short of memory, measure fewer "
        "artifacts at a time, else export it again"
    )
