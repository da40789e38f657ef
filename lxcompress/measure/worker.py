"""The measured process: it loads one artifact and runs it on request, over standard input and output.

It imports neither torch nor pydantic, so that its peak memory is that of the runtime.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TextIO

from lxcompress.errors import LxError
from lxcompress.measure.host.clock import time_runs
from lxcompress.measure.host.cores import cores_held, count_busy, pin_to, thread_seconds
from lxcompress.measure.host.energy import joules_between, read_energy
from lxcompress.measure.host.memory import peak_rss_bytes, rss_bytes
from lxcompress.measure.host.page_cache import drop, read_through
from lxcompress.measure.inputs import make_questions
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
from lxcompress.runtimes import load_runtime

# Untimed runs at the start of each turn, because the caches hold the data of the worker that ran before.
SETTLING_RUNS = 1
# A load is not cold if a larger share of its files than this was still in memory.
_MOST_RESIDENT = 0.02


def main() -> None:
    """Serve the process that started this one until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the prints of a library must not mix with the replies
    try:
        serve(sys.stdin, replies)
    except LxError as error:
        _send(replies, FailureReply(str(error)))
        sys.exit(1)


def serve(requests: TextIO, replies: TextIO) -> None:
    """Reply to one ColdLoadRequest, or to a SetupRequest and then to one TurnRequest per line. Raises LxError."""
    request = read_message(requests.readline())
    if isinstance(request, ColdLoadRequest):
        _send(replies, load_cold(request))
    else:
        assert isinstance(request, SetupRequest)
        for reply in take_turns(request, requests):
            _send(replies, reply)


def load_cold(request: ColdLoadRequest) -> ColdLoadReply:
    """Time one load of files that were dropped from the page cache. Raises MeasureError."""
    pin_to(tuple(request.cores))
    open_file = load_runtime(request.runtime)
    path = Path(request.path)
    resident = drop(_existing_files(path, request.files))
    start = time.perf_counter()
    open_file(path, threads=request.threads)
    load_s = time.perf_counter() - start
    return ColdLoadReply(None if resident is None or resident > _MOST_RESIDENT else load_s, resident)


def take_turns(setup: SetupRequest, requests: TextIO) -> Iterator[Message]:
    """Load and warm up the artifact, then make the runs of each TurnRequest. Raises MeasureError."""
    is_pinned = pin_to(tuple(setup.cores))  # before the runtime is imported, whose threads inherit it
    open_file = load_runtime(setup.runtime)
    path = Path(setup.path)
    read_through(_existing_files(path, setup.files))
    start = time.perf_counter()
    session = open_file(path, threads=setup.threads)
    load_s = time.perf_counter() - start
    questions = make_questions(
        setup.lengths,
        objects=setup.objects,
        feature_size=setup.feature_size,
        seed=setup.seed,
        images=setup.images,
    )

    def answer(length: int) -> object:
        return session.answer(questions[length])

    time_runs(answer, warmup_lengths(setup.lengths, setup.warmup))
    threads = thread_seconds()
    held = cores_held()
    yield ReadyReply(load_s, is_pinned, list(held) if held else None, peak_rss_bytes(), time.process_time())
    for line in requests:
        turn = read_message(line)
        assert isinstance(turn, TurnRequest)
        time_runs(answer, turn.lengths[:SETTLING_RUNS])
        before = read_energy(Path(setup.powercap))
        seconds = time_runs(answer, turn.lengths)
        energy_j = joules_between(before, read_energy(Path(setup.powercap)))
        busy = count_busy(threads, thread_seconds())
        yield TurnReply(seconds, peak_rss_bytes(), rss_bytes(), time.process_time(), energy_j, busy)


def warmup_lengths(lengths: Sequence[int], runs: int) -> list[int]:
    """Return the lengths of at least `runs` warm-up questions: the longest first, and each length at least once.

    The longest takes the most memory, and some runtimes prepare for each length when they first meet it.
    """
    longest_first = sorted(set(lengths), reverse=True)
    more = max(0, runs - len(longest_first))
    return list(chain(longest_first, islice(cycle(longest_first), more)))


def _existing_files(path: Path, names: Sequence[str]) -> list[Path]:
    """Return the artifact's files that exist; the runtime reports a missing one in its own words."""
    return [path / name for name in names if (path / name).is_file()]


def _send(replies: TextIO, message: Message) -> None:
    replies.write(write_message(message))
    replies.flush()


if __name__ == "__main__":
    main()
