"""The layout of a run folder, and the readers of what it contains.

```
RUN/
  recipe.yaml  machine.json  floors.json
  seeds/0/start.safetensors                          start weights of seed 0
  seeds/0/dense/                                     config.json model.safetensors vocab.txt, dense.json last
  seeds/0/step-94.safetensors                        weights of the dense run at that step, for late rewinding
  seeds/0/movement.safetensors                       the criterion movement, summed over the dense run
  seeds/0/sensitivity-NAME.json                      the rise of the loss when one matrix is pruned
  seeds/0/rounds/METHOD/20/                          a round of iterative-retrain: mask.safetensors last
  seeds/0/first/METHOD/                              the first step of compound tickets: first.json last
  tickets/low-magnitude-weight-50-seed0/             a model folder, mask.safetensors, ticket.json, result.json last
  twins/taylor-neuron+head-.../                      like tickets/, to compare the picked ticket with
  artifacts/NAME/                                    exported files, artifact.json last
  measurements/NAME.json                             raw samples of one bench
  report.html results.csv results.json
```
An interrupted training leaves `checkpoint.safetensors` in its folder; a finished training removes the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from lxcompress.errors import RunError
from lxcompress.filenames import (
    ARTIFACT_FILE,
    DENSE_FILE,
    FLOORS_FILE,
    MACHINE_FILE,
    MOVEMENT_FILE,
    RECIPE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    RESULTS_CSV,
    RESULTS_JSON,
    START_FILE,
    TICKET_FILE,
)
from lxcompress.leases import Leases, list_live
from lxcompress.output import command_line
from lxcompress.recipe import Cell, Recipe, load_run_recipe
from lxcompress.records import BenchRecord, Dense, Floors, Machine, Record, Result, dump_sealed, is_whole, read_record
from lxcompress.units import short_percent
from lxcompress.writing import write_text as write_text
from lxcompress.writing import write_whole as write_whole

REDO = "delete it, and run lxcompress study again"
_OF_A_MODEL = ("*.safetensors", "*.json", "vocab.txt")
BEGUN = (
    FLOORS_FILE,
    "seeds/*/*.safetensors",
    "seeds/*/sensitivity-*.json",
    *(f"seeds/*/dense/{name}" for name in _OF_A_MODEL),
    *(f"seeds/*/rounds/*/*/{name}" for name in _OF_A_MODEL),
    *(f"seeds/*/first/*/{name}" for name in _OF_A_MODEL),
    *(f"{top}/*/{name}" for top in ("tickets", "twins") for name in _OF_A_MODEL),
)
"""Patterns of the files that a study may write before its first run is finished."""


@dataclass(frozen=True)
class RunDir:
    """The folder of one study, and the paths in it.

    `drawn` is the subfolder with the tickets: "tickets" for the grid of the recipe, "twins" for the tickets that the
    picked ticket is compared with. `shared` has the leases of this process if processes of several machines work in the
    folder; without it, file locks are used.
    """

    root: Path
    drawn: str = "tickets"
    shared: Leases | None = field(default=None, compare=False, repr=False)

    @property
    def twins(self) -> RunDir:
        """The same run folder, with the tickets in twins/, which are not in the grid of the recipe."""
        return replace(self, drawn="twins")

    @property
    def recipe(self) -> Path:
        return self.root / RECIPE_FILE

    @property
    def machine(self) -> Path:
        return self.root / MACHINE_FILE

    @property
    def floors(self) -> Path:
        return self.root / FLOORS_FILE

    @property
    def lock(self) -> Path:
        """The lock file that one study holds while it runs in the folder."""
        return self.root / ".lock"

    @property
    def current(self) -> Path:
        """A file with the id of the run that a study is training now; there is no file when nothing is trained."""
        return self.root / ".running"

    @property
    def claims(self) -> Path:
        """The folder of lock files: one for each run that a process of a shared study is training."""
        return self.root / ".claims"

    @property
    def leases(self) -> Path:
        """The folder of the leases of processes on several machines."""
        return self.root / ".leases"

    @property
    def workers(self) -> Path:
        """A file with the tasks that the nodes of a Ray cluster do, while they do not share the run folder."""
        return self.root / ".workers.json"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def measurements(self) -> Path:
        return self.root / "measurements"

    @property
    def tracking(self) -> Path:
        """Return the folder of the experiment tracker that the recipe names."""
        return self.root / "tracking"

    @property
    def report(self) -> Path:
        return self.root / REPORT_FILE

    @property
    def results_csv(self) -> Path:
        return self.root / RESULTS_CSV

    @property
    def results_json(self) -> Path:
        return self.root / RESULTS_JSON

    def artifact_records(self) -> list[Path]:
        """Return the path of the record of every exported artifact, sorted."""
        return sorted(self.artifacts.glob(f"*/{ARTIFACT_FILE}"))

    def bench_records(self) -> list[Path]:
        """Return the path of the record of every bench, sorted."""
        return sorted(self.measurements.glob("*.json"))

    def device_bench_records(self) -> dict[str, list[Path]]:
        """Return the paths of the benches of each other device, sorted: name of its folder -> paths."""
        folders = sorted(path for path in (self.measurements / "devices").glob("*") if path.is_dir())
        return {folder.name: sorted(folder.glob("*.json")) for folder in folders}

    def ticket_records(self) -> list[Path]:
        """Return the path of ticket.json of every ticket in the subfolder `drawn`, sorted."""
        return sorted((self.root / self.drawn).glob(f"*/{TICKET_FILE}"))

    def result_records(self) -> list[Path]:
        """Return the path of result.json of every finished cell in the subfolder `drawn`, sorted."""
        return sorted((self.root / self.drawn).glob(f"*/{RESULT_FILE}"))

    def start(self, seed: int) -> Path:
        """Return the path of the start weights of a seed."""
        return self.root / "seeds" / str(seed) / START_FILE

    def dense(self, seed: int) -> Path:
        """Return the folder of the dense run of a seed."""
        return self.root / "seeds" / str(seed) / "dense"

    def find_dense_seed(self, folder: Path) -> int | None:
        """Return the seed of the dense run in `folder`; None if `folder` is not the folder of a dense run."""
        name = folder.absolute().parent.name
        seed = int(name) if name.isdecimal() and name.isascii() else None
        return seed if seed is not None and folder.absolute() == self.dense(seed).absolute() else None

    def snapshot(self, seed: int, step: int) -> Path:
        """Return the path of the weights that the dense run of a seed had after `step` steps."""
        return self.root / "seeds" / str(seed) / f"step-{step}.safetensors"

    def movement(self, seed: int) -> Path:
        """Return the path of the statistic of criterion movement, for a seed."""
        return self.root / "seeds" / str(seed) / MOVEMENT_FILE

    def sensitivity(self, seed: int, name: str) -> Path:
        """Return the path of the sensitivities of a seed; `name` is the id of the method that needs them."""
        return self.root / "seeds" / str(seed) / f"sensitivity-{name}.json"

    def round(self, seed: int, method: str, sparsity: float) -> Path:
        """Return the folder of a round of the schedule iterative-retrain, which ends at `sparsity` (0-1)."""
        return self.root / "seeds" / str(seed) / "rounds" / method / short_percent(sparsity)

    def first(self, seed: int, method: str) -> Path:
        """Return the folder of the smaller model that the first step `method` of compound methods makes."""
        return self.root / "seeds" / str(seed) / "first" / method

    @contextmanager
    def alone_at(self, path: Path) -> Iterator[None]:
        """Hold a lock for the files at `path`, so that only one process of a shared study uses them at a time."""
        with self.alone("-".join(path.relative_to(self.root).parts)):
            yield

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the lock `name` of this run folder; wait while another process has it."""
        if self.shared is not None:
            with self.shared.hold(name):
                yield
            return
        self.claims.mkdir(exist_ok=True)
        with FileLock(self.claims / f"{name}.lock"):
            yield

    def check_claims(self) -> None:
        """Raise LeaseLostError if another process may have taken over what this process is doing."""
        if self.shared is not None:
            self.shared.check()

    def dense_result(self, seed: int) -> Path:
        """Return the path of the record of the dense run of a seed."""
        return self.dense(seed) / DENSE_FILE

    def ticket(self, cell: Cell) -> Path:
        """Return the folder of the ticket of a cell."""
        return self.root / self.drawn / cell.id

    def result(self, cell: Cell) -> Path:
        """Return the path of the record of a cell."""
        return self.ticket(cell) / RESULT_FILE


@dataclass(frozen=True)
class Run:
    """The content of a run folder: the recipe, and the records of all finished runs and benches.

    `dense` maps a seed to the record of its dense run, and `results` the id of a cell to its record.
    """

    dir: RunDir
    recipe: Recipe
    machine: Machine
    floors: Floors | None
    dense: dict[int, Dense]
    results: dict[str, Result]
    benches: list[BenchRecord]


def open_run(root: Path) -> RunDir:
    """Return the run folder at `root`. Raises RunError if `root` has no recipe.yaml."""
    run = RunDir(root)
    if not run.recipe.is_file():
        raise RunError(
            f"{root}: is not a run folder (it has no recipe.yaml); make one with: "
            f"{command_line('study', 'RECIPE', '--out', root)}"
        )
    return run


def find_run(folder: Path) -> RunDir | None:
    """Return the run folder that contains `folder`, if there is one."""
    return next((RunDir(parent) for parent in folder.absolute().parents if RunDir(parent).recipe.is_file()), None)


def read_run(root: Path) -> Run:
    """Read everything that is finished in the run folder at `root`. Raises RunError, also for a damaged file."""
    run = open_run(root)
    recipe = load_run_recipe(run.recipe)
    dense = {seed: read_dense(run, seed) for seed in recipe.seeds}
    results = {cell.id: read_result(run, cell) for cell in recipe.cells()}
    return Run(
        dir=run,
        recipe=recipe,
        machine=read_record(run.machine, Machine),
        floors=read_record(run.floors, Floors) if run.floors.exists() else None,
        dense={seed: record for seed, record in dense.items() if record},
        results={cell: record for cell, record in results.items() if record},
        benches=[read_record(path, BenchRecord) for path in run.bench_records()],
    )


def twins_of(run: Run) -> dict[str, Result]:
    """Return {id of a cell: its record} of all finished tickets in twins/. Raises RunError for a damaged file."""
    return {path.parent.name: _read_result(path) for path in run.dir.twins.result_records() if is_whole(path)}


def read_dense(run: RunDir, seed: int) -> Dense | None:
    """Return the record of a dense run; None if the run is not finished (its record is missing, empty or cut off).

    Raises RunError if the record was changed, or has another seed.
    """
    path = run.dense_result(seed)
    if not is_whole(path):
        return None
    record = read_record(path, Dense, remedy=REDO)
    if record.seed != seed:
        raise RunError(
            f"{path}: belongs to seed {record.seed}, expected seed {seed}; restore the right record, or {REDO}"
        )
    return record


def read_result(run: RunDir, cell: Cell) -> Result | None:
    """Return the record of a cell; None if the cell is not finished (its record is missing, empty or cut off).

    Raises RunError if the record was changed, or belongs to another cell.
    """
    path = run.result(cell)
    return _read_result(path) if is_whole(path) else None


def has_work(run: RunDir) -> bool:
    """Return whether a dense run is finished in the folder, or a ticket exists."""
    patterns = (
        f"seeds/*/dense/{DENSE_FILE}",
        f"tickets/*/{TICKET_FILE}",
        f"tickets/*/{RESULT_FILE}",
        f"twins/*/{RESULT_FILE}",
    )
    return any(is_whole(path) for pattern in patterns for path in run.root.glob(pattern))


def discard_begun(run: RunDir) -> None:
    """Remove the files that a study with an earlier recipe began in a run folder without a finished run.

    The runs of another recipe must not read these files.
    """
    for pattern in BEGUN:
        for path in run.root.glob(pattern):
            path.unlink(missing_ok=True)
    folders = [path for top in ("seeds", "tickets", "twins") for path in (run.root / top).rglob("*") if path.is_dir()]
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _read_result(path: Path) -> Result:
    """Return the record of a cell. Raises RunError if it is damaged, or belongs to another cell than its folder."""
    record = read_record(path, Result, remedy=REDO)
    if record.cell != path.parent.name:
        raise RunError(
            f"{path}: belongs to {record.cell}, expected {path.parent.name}; restore the right record, or {REDO}"
        )
    return record


def is_busy(run: RunDir) -> bool:
    """Return whether a study is running in the run folder now, on this machine or on others."""
    return is_locked(run) or bool(list_live(run.leases))


def is_locked(run: RunDir) -> bool:
    """Return whether a study that uses no leases is running in the run folder."""
    if not run.lock.exists():
        return False
    try:
        with FileLock(run.lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only folder, where no lock can be tried
        return False


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Lock the run folder for one study, inside the `with` block; the lock also ends when the process ends.

    Raises RunError if another study holds the lock, or if processes that joined a study work in the folder.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.lock, timeout=0):
            if run.shared is None:
                _refuse_joined(run)
            yield
    except Timeout:
        raise RunError(
            f"{run.root}: another study is running in this folder; wait for it ({command_line('status', run.root)}), "
            "or give another --out"
        ) from None


def _refuse_joined(run: RunDir) -> None:
    """Raise RunError if processes that joined a study work in the folder."""
    live = list_live(run.leases)
    if live:
        hosts = ", ".join(sorted({claim.holder.host for claim in live}))
        raise RunError(
            f"{run.root}: processes on {hosts} work in this folder (last heartbeat {live[0].age_s:.0f} s ago); wait "
            "for them, or join them with --join"
        )


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON with its seal to `path`, completely or not at all."""
    write_text(path, dump_sealed(record))


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
