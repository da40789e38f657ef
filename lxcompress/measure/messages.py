"""What a measuring process and its worker say to each other: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Setup:
    """The first line to a worker: what to load, where to run it, and its questions.

    `lengths` are those of the questions to come, each once, `files` those of the artifact, and `powercap` is the folder
    in which Linux shows what the processor takes.
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
class Ready:
    """The answer to Setup: loaded and warm. `cpu_s` is the worker's processor time since it started.

    `cores_held` are those that any of its threads may run on, read back; None where the system does not tell.
    """

    load_s: float
    is_pinned: bool
    cores_held: list[int] | None
    peak_bytes: int
    cpu_s: float


@dataclass(frozen=True)
class ColdLoad:
    """The only line to a worker that times one load of files that are not in memory, and leaves."""

    path: str
    runtime: str
    threads: int
    cores: list[int]
    files: list[str]


@dataclass(frozen=True)
class Loaded:
    """The answer to ColdLoad; `resident` is the share of the files' pages, 0-1, that was in memory all the same.

    Both are None where the system does not let go of a file, or does not tell.
    """

    load_s: float | None
    resident: float | None


@dataclass(frozen=True)
class Turn:
    """A request: a timed run for each of `lengths`, questions of so many tokens."""

    lengths: list[int]


@dataclass(frozen=True)
class Round:
    """The answer to Turn: the seconds of each run, and what the worker has taken up to now.

    `energy_j` is of the timed runs of this turn. `busy_threads` took processor time since the worker was ready.
    """

    seconds: list[float]
    peak_bytes: int
    held_bytes: int
    cpu_s: float
    energy_j: float | None
    busy_threads: int | None


@dataclass(frozen=True)
class Failure:
    """The answer to anything that could not be done: a sentence for the user."""

    failure: str


Message = Setup | Ready | ColdLoad | Loaded | Turn | Round | Failure
_KINDS = (Setup, Ready, ColdLoad, Loaded, Turn, Round, Failure)


def write_message(message: Message) -> str:
    """The message as one line of JSON, with its newline."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"


def read_message(line: str) -> Message:
    """The message in a line; raises ValueError if it is none of ours."""
    try:
        fields = json.loads(line)
        kind = {each.__name__: each for each in _KINDS}[fields.pop("kind")]
        return kind(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise ValueError(f"not a message: {line!r}") from problem
