"""Laws of tasks: each after its needs, none lost or twice, failures tried again, and the numbers of one process."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest

from lxcompress.errors import RunError
from lxcompress.recipe import Recipe, load_recipe
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.parcel import Parcel, pack, unpack
from lxcompress.study.plan import StudyPlan
from lxcompress.study.ray_pool import RayOptions, connected
from lxcompress.study.run import missing_runs, run_study
from lxcompress.study.schedule import SimulatedPool, TaskOutcome, run_tasks
from lxcompress.study.simulate import estimate_clusters
from lxcompress.study.task_worker import StudyJob, TaskWorker
from lxcompress.study.tasks import StudyTask, is_done, list_inputs, list_tasks
from tests.study.test_run import assert_same_runs

GRID = {
    "name": "grid",
    "seeds": [0, 1],
    "data": {"kind": "scenes"},
    "prune": {
        "methods": [
            {"schedule": "iterative-retrain"},
            {"criterion": "random"},
            {
                "granularity": "block-1x4",
                "first": {"granularity": "neuron", "sparsity": 0.3, "schedule": "iterative-retrain"},
                "schedule": "iterative-retrain",
                "rewind": "learning-rate",
            },
        ],
        "sparsities": [0.5, 0.7],
    },
}


@pytest.fixture
def tasks(tmp_path) -> list[StudyTask]:
    recipe, run = Recipe.model_validate(GRID), RunDir(tmp_path)
    return list_tasks(recipe, missing_runs(recipe, recipe.cells(), run), run)


def test_a_task_needs_what_it_is_made_of(tasks) -> None:
    by_id = {task.id: task for task in tasks}
    assert len(by_id) == len(tasks)
    assert list(by_id) == [task.id for task in tasks]
    iterative = "low-magnitude-weight-iterative-retrain"
    cell = by_id[f"{iterative}-50-seed0"]
    assert [task.id for task in list_inputs(tasks)[cell.id]] == [
        "dense-seed0",
        *(f"seeds-0-rounds-{iterative}-{percent}" for percent in ("20", "36", "48.8")),
    ]
    compound = next(task for task in tasks if task.cell and task.cell.method.first and task.kind == "cell")
    kinds = [task.kind for task in list_inputs(tasks)[compound.id]]
    assert kinds[:3] == ["dense", "round", "first"]
    assert set(kinds[3:]) == {"round"}
    assert by_id["random-weight-50-seed1"].needs == ("dense-seed1",)
    kinds = [task.kind for task in tasks if task.seed == 0]
    assert kinds.count("cell") == 6
    assert kinds.count("first") == 1


@dataclass
class StubPool:
    """A pool whose tasks end in any order; `fails` says which attempts do."""

    draw: random.Random
    size: int = 7
    fails: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    running: list[StudyTask] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def capacity(self) -> int:
        return self.size

    def submit(self, task: StudyTask) -> None:
        assert len(self.running) < self.size
        self.begun.append(task.id)
        self.running.append(task)

    def wait(self) -> Sequence[TaskOutcome]:
        task = self.running.pop(self.draw.randrange(len(self.running)))
        if task.id in self.refused:
            return [TaskOutcome(task.id, refusal="the mask would be empty")]
        if self.fails.get(task.id, 0):
            self.fails[task.id] -= 1
            return [TaskOutcome(task.id, failure="the node is gone")]
        self.done.append(task.id)
        return [TaskOutcome(task.id)]


@pytest.mark.parametrize("seed", range(20))
def test_every_task_is_done_once_and_after_its_needs(seed, tasks) -> None:
    draw = random.Random(seed)
    fails = {task.id: draw.randrange(4) for task in tasks if draw.random() < 0.5}
    pool = StubPool(draw, size=draw.randrange(1, 9), fails=dict(fails))
    result = run_tasks(tasks, pool, max_retries=3)
    assert sorted(pool.done) == sorted(task.id for task in tasks)
    assert (result.done, result.failed, result.retries) == (len(tasks), {}, sum(fails.values()))
    when = {name: index for index, name in enumerate(pool.done)}
    for task in tasks:
        assert all(when[need] < when[task.id] for need in task.needs)


def test_a_task_that_fails_keeps_only_those_from_being_done_that_need_it(tasks) -> None:
    name = next(task.id for task in tasks if task.kind == "first")
    pool = StubPool(random.Random(0), refused={name}, fails={"dense-seed1": 3})
    result = run_tasks(tasks, pool, max_retries=2)
    lost = {task.id for task in tasks if name in {task.id, *(other.id for other in list_inputs(tasks)[task.id])}}
    lost |= {task.id for task in tasks if task.seed == 1}
    assert set(result.failed) == lost
    assert set(pool.done) == {task.id for task in tasks} - lost
    assert pool.begun.count(name) == 1
    assert pool.begun.count("dense-seed1") == 3
    assert result.failed[name] == "the mask would be empty"
    others = [task.id for task in tasks if task.seed == 0 and task.id in lost - {name}]
    assert others
    assert all(f"needs {name}, which failed" in result.failed[other] for other in others)


def test_ten_thousand_cells_are_scheduled_in_little_time_and_memory() -> None:
    """Under 5 ms a cell, and no more tasks in flight than the pool takes."""
    recipe = Recipe.model_validate(
        GRID
        | {
            "seeds": list(range(100)),
            "prune": GRID["prune"] | {"sparsities": [(20 + index) / 60 for index in range(34)]},
        }
    )
    cells = recipe.cells()
    assert len(cells) > 10_000
    run = RunDir(Path("nowhere"))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    tasks = list_tasks(recipe, [*recipe.seeds, *cells], run)
    pool = StubPool(random.Random(0), size=128)
    assert run_tasks(tasks, pool).done == len(tasks)
    taken_s = time.process_time() - started
    assert taken_s / len(cells) < 0.005
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_more_workers_take_less_time_until_the_longest_chain_decides(tasks) -> None:
    times = []
    for workers in (1, 2, 4, 1000):
        pool = SimulatedPool(workers, lambda task: 2.0 if task.kind == "dense" else 1.0)
        run_tasks(tasks, pool)
        times.append(pool.now_s)
        assert pool.busy_s == len(tasks) + 2
    assert times[0] == len(tasks) + 2
    assert times == sorted(times, reverse=True)
    longest = max(len(list_inputs(tasks)[task.id]) for task in tasks)
    assert times[-1] == longest + 2


def plan_a_run_a_second() -> StudyPlan:
    """Return a plan in which a training takes one second and a scoring none."""
    known = {"steps_a_run": 100, "step_s": 0.01, "device": "cuda:0"}
    return StudyPlan(**{field.name: known.get(field.name, 0) for field in fields(StudyPlan)})


def test_the_grid_of_the_thesis_takes_84_runs_on_one_gpu_and_3_on_64(tmp_path) -> None:
    recipe, plan = load_recipe(Path("thesis")), plan_a_run_a_second()
    found = estimate_clusters(recipe, tmp_path, plan, [1, 8, 64])
    assert [estimate.wall_s for estimate in found] == pytest.approx([84, 12, 3])
    assert [estimate.busy_s for estimate in found] == pytest.approx([84] * 3)
    assert [estimate.utilisation for estimate in found] == pytest.approx([1, 84 / 96, 84 / 192])
    (scored,) = estimate_clusters(recipe, tmp_path, replace(plan, scoring_s=0.1), [1])
    assert scored.wall_s == pytest.approx(84 + 0.1 * (3 * (4 + 1) + 81 * (4 + 2)))


def test_the_page_about_clusters_says_what_the_simulation_gives(tmp_path) -> None:
    found = estimate_clusters(load_recipe(Path("methods")), tmp_path, plan_a_run_a_second(), [1, 8, 64])
    one, eight, many = (f"{estimate.wall_s:,.0f}" for estimate in found)
    page = " ".join((Path(__file__).parents[2] / "docs/cluster.md").read_text("utf-8").split())
    assert f"the time of {one}, {eight} and {many} runs on 1, 8 and 64 GPUs" in page
    assert f"({found[-1].utilisation:.0%} of the 64 used)".replace("%", " %") in page


@dataclass
class InProcess:
    """A pool whose worker has another run folder: files travel to it and back, as between machines."""

    run: RunDir
    worker: TaskWorker
    tasks: Sequence[StudyTask]
    waiting: list[StudyTask] = field(default_factory=list)

    def capacity(self) -> int:
        return 1

    def submit(self, task: StudyTask) -> None:
        self.waiting.append(task)

    def wait(self) -> Sequence[TaskOutcome]:
        task = self.waiting.pop()
        for need in list_inputs(self.tasks)[task.id]:
            if not is_done(self.worker.run, need):
                unpack(pack(self.run, need), self.worker.run.root)
        outcome = self.worker.do(task)
        if outcome.refusal is None:
            unpack(pack(self.worker.run, task), self.run.root)
        return [outcome]


def test_tasks_without_a_common_folder_give_the_files_of_one_process(tiny_recipe_file, tmp_path) -> None:
    methods = "prune.methods=[{schedule: iterative-retrain, rate: 0.4, rewind: step}]"
    settings = ["train.epochs=1", "seeds=[0]", "prune.criteria=[]", "prune.sparsities=[0.5]", methods]
    recipe = load_recipe(tiny_recipe_file, settings)
    run_study(recipe, tmp_path / "whole")
    recipe, run = resolve_recipe(recipe), RunDir(tmp_path / "run")
    tasks = list_tasks(recipe, missing_runs(recipe, recipe.cells(), run), run)
    assert [task.kind for task in tasks] == ["dense", "round", "cell"]
    pool = InProcess(run, TaskWorker(StudyJob(recipe, tmp_path / "node", is_shared=False)), tasks)
    result = run_tasks(tasks, pool)
    assert (result.done, result.failed) == (3, {})
    (run.floors).write_bytes((tmp_path / "whole/floors.json").read_bytes())
    assert_same_runs(tmp_path / "whole", tmp_path / "run", runs=2)
    same = {path.relative_to(run.root) for path in run.root.rglob("*.safetensors")}
    assert same == {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")}
    assert all((run.root / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in same)
    assert pack(run, tasks[-1]).files[-1].name.endswith("/result.json")
    assert pack(run, tasks[0]).files[-1].name.endswith("/dense.json")
    assert pack(run, tasks[1]).files[-1].name.endswith("/mask.safetensors")


def test_a_damaged_parcel_writes_nothing(tmp_path, tiny_run) -> None:
    run = RunDir(tiny_run)
    parcel = pack(run, StudyTask("dense-seed0", "dense", 0))
    assert parcel.size_bytes == sum(file.data.size for file in parcel.files)
    last = parcel.files[-1]
    damaged = np.array(last.data)
    damaged[0] ^= 1
    with pytest.raises(RunError, match=r"dense\.json: was damaged on its way"):
        unpack(Parcel((*parcel.files[:-1], replace(last, data=damaged))), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_refused_at_once(address) -> None:
    refused = pytest.raises(RunError, match=f"--address {address}: no Ray cluster answers there")
    with refused, connected(RayOptions(address=address)):
        pass
