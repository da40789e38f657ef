"""Every file name of a run folder, and writes that are whole or not there at all.

```
RUN/
  recipe.yaml  machine.json  floors.json
  seeds/0/start.safetensors                          start weights of seed 0
  seeds/0/dense/                                     config.json model.safetensors vocab.txt, dense.json last
  seeds/0/step-94.safetensors                        weights of the dense run at that step, for late rewinding
  seeds/0/movement.safetensors                       what the criterion movement added up over the dense run
  seeds/0/sensitivity-NAME.json                      what each matrix's pruning alone does to the loss
  seeds/0/rounds/METHOD/20/                          a round of iterative-retrain: mask.safetensors last
  tickets/low-magnitude-weight-50-seed0/             the same, mask.safetensors, ticket.json, result.json last
  twins/taylor-neuron+head-.../                      as tickets/, of what was drawn to compare the picked ticket with
  artifacts/NAME/                                    exported files, artifact.json last
  measurements/NAME.json                             raw samples of one bench
  report.html results.csv results.json
```
A fit that was interrupted leaves `checkpoint.safetensors` in its folder; a finished one leaves none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from lxcompress.errors import RunError
from lxcompress.recipe import Cell, Recipe, load_run_recipe
from lxcompress.records import Bench, Dense, Floors, Machine, Record, Result, dump_record, read_record
from lxcompress.units import short_percent
from lxcompress.writing import write_text as write_text
from lxcompress.writing import write_whole as write_whole


@dataclass(frozen=True)
class RunDir:
    """The folder of one study; `drawn` is the part of it that holds its cells."""

    root: Path
    drawn: str = "tickets"

    @property
    def twins(self) -> RunDir:
        """The same folder, with the cells that are no part of the grid: drawn to compare the picked ticket with."""
        return replace(self, drawn="twins")

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def machine(self) -> Path:
        return self.root / "machine.json"

    @property
    def floors(self) -> Path:
        return self.root / "floors.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def current(self) -> Path:
        """Holds the id of the run that a study is at, while one is at work."""
        return self.root / ".running"

    @property
    def claims(self) -> Path:
        """Locks of the runs that the processes of a shared study are at."""
        return self.root / ".claims"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def measurements(self) -> Path:
        return self.root / "measurements"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def results_csv(self) -> Path:
        return self.root / "results.csv"

    @property
    def results_json(self) -> Path:
        return self.root / "results.json"

    def start(self, seed: int) -> Path:
        return self.root / "seeds" / str(seed) / "start.safetensors"

    def dense(self, seed: int) -> Path:
        return self.root / "seeds" / str(seed) / "dense"

    def snapshot(self, seed: int, step: int) -> Path:
        return self.root / "seeds" / str(seed) / f"step-{step}.safetensors"

    def movement(self, seed: int) -> Path:
        return self.root / "seeds" / str(seed) / "movement.safetensors"

    def sensitivity(self, seed: int, name: str) -> Path:
        return self.root / "seeds" / str(seed) / f"sensitivity-{name}.json"

    def round(self, seed: int, method: str, sparsity: float) -> Path:
        return self.root / "seeds" / str(seed) / "rounds" / method / short_percent(sparsity)

    @contextmanager
    def alone_at(self, path: Path) -> Iterator[None]:
        """Makes the processes that share a study come one after the other to what they keep at `path` in common."""
        self.claims.mkdir(exist_ok=True)
        with FileLock(self.claims / f"{'-'.join(path.relative_to(self.root).parts)}.lock"):
            yield

    def dense_result(self, seed: int) -> Path:
        return self.dense(seed) / "dense.json"

    def ticket(self, cell: Cell) -> Path:
        return self.root / self.drawn / cell.id

    def result(self, cell: Cell) -> Path:
        return self.ticket(cell) / "result.json"


@dataclass(frozen=True)
class Run:
    """What a run folder holds, read: the recipe and all that is finished so far."""

    dir: RunDir
    recipe: Recipe
    machine: Machine
    floors: Floors | None
    dense: dict[int, Dense]
    results: dict[str, Result]
    benches: list[Bench]


def open_run(root: Path) -> RunDir:
    """The run folder at `root`. Raises RunError if there is none."""
    run = RunDir(root)
    if not run.recipe.is_file():
        raise RunError(
            f"{root}: is not a run folder (it has no recipe.yaml); make one with: lxcompress study RECIPE --out {root}"
        )
    return run


def read_run(root: Path) -> Run:
    """All that is finished in the run folder at `root`. Raises RunError, also for a damaged file."""
    run = open_run(root)
    recipe = load_run_recipe(run.recipe)
    return Run(
        dir=run,
        recipe=recipe,
        machine=read_record(run.machine, Machine),
        floors=read_record(run.floors, Floors) if run.floors.exists() else None,
        dense={
            seed: read_record(run.dense_result(seed), Dense) for seed in recipe.seeds if run.dense_result(seed).exists()
        },
        results={
            cell.id: read_record(run.result(cell), Result) for cell in recipe.cells() if run.result(cell).exists()
        },
        benches=[read_record(path, Bench) for path in sorted(run.measurements.glob("*.json"))],
    )


def twins_of(run: Run) -> dict[str, Result]:
    """What the finished twins of the run scored, by the id of their cell. Raises RunError for a damaged file."""
    paths = sorted((run.dir.root / run.dir.twins.drawn).glob("*/result.json"))
    return {path.parent.name: read_record(path, Result) for path in paths}


def is_busy(run: RunDir) -> bool:
    """Whether a study is at work in the run folder now."""
    if not run.lock.exists():
        return False
    try:
        with FileLock(run.lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: who cannot lock it cannot tell
        return False


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Holds the run folder for one study; the lock ends with the process. Raises RunError if another holds it."""
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.lock, timeout=0):
            yield
    except Timeout:
        raise RunError(
            f"{run.root}: another study is at work in this folder; wait for it (lxcompress status {run.root}), "
            "or give another --out"
        ) from None


def write_record(path: Path, record: Record) -> None:
    """Writes a record as JSON to `path`, whole."""
    write_text(path, dump_record(record))


def sha256(path: Path) -> str:
    """The SHA-256 of the file, in hexadecimal; read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
