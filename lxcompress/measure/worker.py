"""The measured process: loads one artifact and runs it when told to, over standard input and output.

It imports no torch and no pydantic: its peak memory is to be the runtime's.
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
from lxcompress.runtimes import load_runtime

# Untimed runs at the start of each turn: the caches hold what the worker before this one left there.
SETTLE = 1
# More than this share of a file still in memory is no cold load.
_STILL_WARM = 0.02


def main() -> None:
    """Serves the process that started this one until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with the replies
    try:
        serve(sys.stdin, replies)
    except LxError as error:
        _say(replies, Failure(str(error)))
        sys.exit(1)


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answers a ColdLoad, or a Setup and then a Turn a line until `requests` ends. Raises LxError."""
    request = read_message(requests.readline())
    if isinstance(request, ColdLoad):
        _say(replies, load_cold(request))
    else:
        assert isinstance(request, Setup)
        for answer in take_turns(request, requests):
            _say(replies, answer)


def load_cold(request: ColdLoad) -> Loaded:
    """Times one load of files that the system was made to forget. Raises MeasureError."""
    pin_to(tuple(request.cores))
    open_file = load_runtime(request.runtime)
    path = Path(request.path)
    resident = drop(_files(path, request.files))
    start = time.perf_counter()
    open_file(path, threads=request.threads)
    load_s = time.perf_counter() - start
    return Loaded(None if resident is None or resident > _STILL_WARM else load_s, resident)


def take_turns(setup: Setup, requests: TextIO) -> Iterator[Message]:
    """Loads and warms up, then makes the runs of each Turn. Raises MeasureError."""
    is_pinned = pin_to(tuple(setup.cores))  # before the runtime is imported, whose threads inherit it
    open_file = load_runtime(setup.runtime)
    path = Path(setup.path)
    read_through(_files(path, setup.files))
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
    yield Ready(load_s, is_pinned, list(held) if held else None, peak_rss_bytes(), time.process_time())
    for line in requests:
        turn = read_message(line)
        assert isinstance(turn, Turn)
        time_runs(answer, turn.lengths[:SETTLE])
        before = read_energy(Path(setup.powercap))
        seconds = time_runs(answer, turn.lengths)
        energy_j = joules_between(before, read_energy(Path(setup.powercap)))
        busy = count_busy(threads, thread_seconds())
        yield Round(seconds, peak_rss_bytes(), rss_bytes(), time.process_time(), energy_j, busy)


def warmup_lengths(lengths: Sequence[int], runs: int) -> list[int]:
    """`runs` lengths or more: the longest first, which takes the most memory, and each at least once, because some
    runtimes prepare themselves anew for a length that they have not met."""
    longest_first = sorted(set(lengths), reverse=True)
    more = max(0, runs - len(longest_first))
    return list(chain(longest_first, islice(cycle(longest_first), more)))


def _files(path: Path, names: Sequence[str]) -> list[Path]:
    """Those of the artifact's files that are there: what is missing by now, the runtime says in its own sentence."""
    return [path / name for name in names if (path / name).is_file()]


def _say(replies: TextIO, message: Message) -> None:
    replies.write(write_message(message))
    replies.flush()


if __name__ == "__main__":
    main()
