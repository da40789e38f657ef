"""Helpers: more processes on a CPU that share the runs of a study, started and ended by the study itself.

One run of a small model cannot keep several cores busy, because each of its operations is short. So two processes with
one thread each do more runs in an hour than one process with two threads. A helper takes whole runs (worker.py). It
ends when the study that started it ends, even if that is killed: it reads its standard input, which is closed then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from lxcompress.filenames import RECIPE_FILE
from lxcompress.machine import usable_cores
from lxcompress.recipe import Recipe, dump_recipe, load_run_recipe
from lxcompress.rundir import write_text
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.worker import StudyWorker

ENDING_S = 20
"""How long the study waits for a helper to end."""


def count_processes(recipe: Recipe, worker: StudyWorker, runs: int, *, on_cpu: bool) -> int:
    """Return how many processes share `runs` runs, at most `recipe.processes` and one for each core.

    It is 1 on a GPU, and for a process that a launcher started: the launcher decides how many there are.
    """
    if worker.count > 1 or not on_cpu:
        return 1
    return max(1, min(recipe.processes, len(usable_cores()), runs))


@contextmanager
def shared_threads(count: int) -> Iterator[int]:
    """Divide torch's threads by `count` inside the block; yield the number of threads that each process has."""
    import torch

    before = torch.get_num_threads()
    threads = max(1, before // count)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


@contextmanager
def helpers(recipe: Recipe, root: Path, only: str, count: int, progress: StudyReporter) -> Iterator[StudyWorker]:
    """Start `count` - 1 helpers, which end with the block; yield the worker that this process then is.

    A helper that fails is a remark: the runs that it leaves are done by the other processes.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        threads = stack.enter_context(shared_threads(count))
        write_text(folder / RECIPE_FILE, dump_recipe(recipe))
        for rank in range(1, count):
            errors = stack.enter_context((folder / f"{rank}.txt").open("w+"))
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "OMP_NUM_THREADS": threads}
            process = subprocess.Popen(
                [sys.executable, "-m", "lxcompress.study.helpers", folder / RECIPE_FILE, root.absolute(), only],
                env={**os.environ, **{name: str(value) for name, value in names.items()}},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            stack.callback(_end, process, errors, progress)
        yield StudyWorker(0, count)


def _end(process: subprocess.Popen[bytes], errors: IO[str], progress: StudyReporter) -> None:
    """End a helper, and remark if it had ended with an error before."""
    code = process.poll()
    assert process.stdin is not None, "a helper is started with a pipe"
    process.stdin.close()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if code:
        errors.seek(0)
        lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {code}"
        progress.remark(f"a helper process ended with an error ({reason}); this process did the runs that it left")


def _end_with_study() -> None:
    """End this process when its standard input is closed, which the end of the study does."""
    sys.stdin.read()
    os._exit(0)


def _help() -> None:
    """Do runs of the study that started this process: the arguments are its recipe, its folder and its pattern."""
    from lxcompress.study.run import run_study

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the study, which then ends its helpers
    threading.Thread(target=_end_with_study, daemon=True).start()
    recipe, root, only = sys.argv[1:]
    run_study(load_run_recipe(Path(recipe)), Path(root), only=only)


if __name__ == "__main__":
    _help()
