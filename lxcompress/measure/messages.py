"""The messages between the bench and its worker processes: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class SetupRequest:
    """The first line to a worker: what to load, where to run it, and the questions to expect.

    `lengths` holds each length of the coming questions once, `files` are those of the artifact, and `powercap` is the
    folder in which Linux counts the processor's energy.
    """

    path: str
    runtime: str
    threads: int
    cores: list[int]
    warmup: int
    lengths: list[int]
    objects: int
    feature_size: int
    seed: int
    images: int
    files: list[str]
    powercap: str


@dataclass(frozen=True)
class ReadyReply:
    """The reply to SetupRequest, after loading and warm-up; `cpu_s` is the worker's processor time since it started.

    `cores_held` are the cores that any of its threads may run on; None where the system does not say.
    """

    load_s: float
    is_pinned: bool
    cores_held: list[int] | None
    peak_bytes: int
    cpu_s: float


@dataclass(frozen=True)
class ColdLoadRequest:
    """The only line to a worker that times one load of files outside the page cache, and then exits."""

    path: str
    runtime: str
    threads: int
    cores: list[int]
    files: list[str]


@dataclass(frozen=True)
class ColdLoadReply:
    """The reply to ColdLoadRequest; `resident` is the share of the files' pages, 0-1, that stayed in memory.

    `load_s` is None if too many pages stayed; both are None where the system cannot drop a file or does not say.
    """

    load_s: float | None
    resident: float | None


@dataclass(frozen=True)
class TurnRequest:
    """A request for timed runs: one question of each of these `lengths`, in tokens."""

    lengths: list[int]


@dataclass(frozen=True)
class TurnReply:
    """The reply to TurnRequest: the seconds of each run, and what the worker has used so far.

    `energy_j` is the energy of the timed runs of this turn. `busy_threads` counts the threads that took processor time
    since the worker was ready.
    """

    seconds: list[float]
    peak_bytes: int
    held_bytes: int
    cpu_s: float
    energy_j: float | None
    busy_threads: int | None


@dataclass(frozen=True)
class FailureReply:
    """The reply to any request that failed: one sentence for the user."""

    failure: str


Message = SetupRequest | ReadyReply | ColdLoadRequest | ColdLoadReply | TurnRequest | TurnReply | FailureReply
_KINDS = {
    kind.__name__: kind
    for kind in (SetupRequest, ReadyReply, ColdLoadRequest, ColdLoadReply, TurnRequest, TurnReply, FailureReply)
}


def write_message(message: Message) -> str:
    """Return the message as one line of JSON, with its newline."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"


def read_message(line: str) -> Message:
    """Return the message in a line. Raises ValueError for any other line."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise ValueError(f"not a message: {line!r}") from problem
