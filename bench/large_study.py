"""How long `status`, `pick` and `report` take on a study of 10,000 finished runs, and how much memory they use.

    python bench/large_study.py RUN [--out FOLDER] [--seeds 100]

RUN is a small finished run folder. Its records are written again under the ids of a large grid, with other accuracies.
Each command runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lxcompress.recipe import Recipe, dump_recipe
from lxcompress.records import Result, Score
from lxcompress.rundir import RunDir, read_run, write_record, write_text

CRITERIA = ("low-magnitude", "taylor", "fisher", "wanda", "random")
GRANULARITIES = ("weight", "block-1x4", "2:4", "neuron", "head")
COMMANDS = ("status", "pick", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    if given.out:
        measure(given.out, build(given))
        return
    with tempfile.TemporaryDirectory(prefix="lxcompress-") as folder:
        given.out = Path(folder) / "run"
        measure(given.out, build(given))


def build(given: argparse.Namespace) -> int:
    """Write the run folder, unless it is there; return its number of cells."""
    small = read_run(given.run)
    methods = [
        {"criterion": criterion, "granularity": granularity}
        for criterion in CRITERIA
        for granularity in GRANULARITIES
        if not (granularity == "2:4" or (criterion == "wanda" and granularity in ("neuron", "head")))
    ]
    count = max(1, round(given.cells / len(methods) / given.seeds))
    tree = small.recipe.model_dump(mode="json", exclude_defaults=True)
    tree |= {"seeds": list(range(given.seeds))}
    sparsities = [round(0.3 + 0.6 * index / count, 4) for index in range(count)]
    tree["prune"] = {"methods": methods, "sparsities": sparsities}
    recipe, run, draw = Recipe.model_validate(tree), RunDir(given.out), random.Random(0)
    cells = recipe.cells()
    if run.recipe.exists():
        return len(cells)
    dense, result = next(iter(small.dense.values())), next(iter(small.results.values()))
    write_text(run.recipe, dump_recipe(recipe))
    write_record(run.machine, small.machine)
    if small.floors:
        write_record(run.floors, small.floors)
    for seed in recipe.seeds:
        trained = changed(dense.trained, draw.gauss(0.7, 0.01))
        write_record(run.dense_result(seed), dense.model_copy(update={"seed": seed, "trained": trained}))
    for cell in cells:
        retrained = changed(result.retrained, draw.gauss(0.7, 0.01) - 0.05 * cell.sparsity**4)
        method = {"id": cell.method.id, **cell.method.model_dump(mode="json", exclude_defaults=True)}
        whole = result.sparsity
        removed = round(whole.prunable * cell.sparsity)
        shares = {"achieved": whole.prunable, "of_live": whole.live, "of_all": whole.all}
        sparsity = {"kept": whole.prunable - removed, **{share: removed / of for share, of in shares.items()}}
        fields = {
            "cell": cell.id,
            "method": method,
            "criterion": cell.method.criterion,
            "granularity": cell.method.granularity,
            "target": cell.sparsity,
            "seed": cell.seed,
            "retrained": retrained,
            "sparsity": whole.model_copy(update=sparsity),
        }
        write_record(run.result(cell), Result.model_validate({**result.model_dump(), **fields, "seal": ""}))
    return len(cells)


def changed(score: Score, accuracy: float) -> Score:
    accuracy = min(1.0, max(0.0, accuracy))
    return score.model_copy(update={"accuracy": accuracy, "by_type": dict.fromkeys(score.by_type, accuracy)})


def measure(root: Path, cells: int) -> None:
    """Run each command on the folder, and print its time and its memory."""
    for name in COMMANDS:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "lxcompress", name, str(root)], stdout=subprocess.DEVNULL, start_new_session=True
        )
        _, code, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        cpu_s = usage.ru_utime + usage.ru_stime
        print(
            f"{name:8} {cells:,} runs: {wall_s:6.1f} s, {cpu_s:6.1f} s of CPU, {peak / 1e6:6.0f} MB, "
            f"exit code {os.waitstatus_to_exitcode(code)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
