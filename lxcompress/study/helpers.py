"""Helpers: more processes on a CPU that share the runs of a study, started and ended by the study itself.

One run of a small model cannot keep several cores busy, because each of its operations is short. So two processes with
one thread each do more runs in an hour than one process with two threads. A helper takes whole runs (worker.py). It
ends when the study that started it ends, even if that is killed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lxcompress.filenames import RECIPE_FILE
from lxcompress.helper_process import end_with_starter, helper_process
from lxcompress.machine import usable_cores
from lxcompress.recipe import Recipe, dump_recipe, load_run_recipe
from lxcompress.rundir import write_text
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.worker import StudyWorker

_MODULE = "lxcompress.study.helpers"


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

    def report(reason: str) -> None:
        progress.remark(f"a helper process ended with an error ({reason}); this process did the runs that it left")

    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / RECIPE_FILE
        threads = stack.enter_context(shared_threads(count))
        write_text(path, dump_recipe(recipe))
        for rank in range(1, count):
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "OMP_NUM_THREADS": threads}
            stack.enter_context(helper_process(_MODULE, [path, root.absolute(), only], variables, report))
        yield StudyWorker(0, count)


def _help() -> None:
    """Do runs of the study that started this process: the arguments are its recipe, its folder and its pattern."""
    from lxcompress.study.run import run_study

    end_with_starter()
    recipe, root, only = sys.argv[1:]
    run_study(load_run_recipe(Path(recipe)), Path(root), only=only)


if __name__ == "__main__":
    _help()
