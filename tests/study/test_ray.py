"""A study on a real Ray cluster of three nodes: whatever is killed, its files are those of a study in one process.

`python -m pytest -m slow -s tests/study/test_ray.py` prints what was killed. 30 rounds of kills take an hour:
RAY_ROUNDS=10-19 does some of them. The kills of a round depend on its number and on RAY_SEED.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from lxcompress.analysis.study_progress import study_progress
from lxcompress.recipe import load_recipe
from lxcompress.rundir import read_run
from lxcompress.study.run import LAST_FILES, run_study
from tests import children
from tests.study.test_run import assert_same_runs

FIRST, LAST = (int(number) for number in os.environ.get("RAY_ROUNDS", "0-29").split("-"))
SEED = int(os.environ.get("RAY_SEED", "17"))
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
LONGEST_S = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own code
    pytest.mark.timeout(4 * 3600),
]


@dataclass
class ThreeNodes:
    """A cluster on this machine: the head, which has no cores for runs, and three nodes that come back when removed."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    def fill(self) -> None:
        """Add nodes until there are three."""
        while len(self.nodes) < 3:
            self.nodes.append(self.cluster.add_node(**NODE))
        self.cluster.wait_for_nodes()

    def remove_one(self, draw: random.Random) -> None:
        """Kill all processes of a node at once."""
        self.cluster.remove_node(self.nodes.pop(draw.randrange(len(self.nodes))), allow_graceful=False)

    def kill_worker(self, draw: random.Random) -> bool:
        """Kill one process that does a task; return whether there was one."""
        raylets = {info.process.pid for node in self.nodes for info in node.all_processes.get("raylet", [])}
        busy = [process for process in psutil.process_iter() if _does_a_task(process, raylets)]
        if busy:
            draw.choice(busy).kill()
        return bool(busy)


def _does_a_task(process: psutil.Process, raylets: set[int]) -> bool:
    """Return whether a process is a worker of one of the raylets, and does a task now."""
    try:
        is_busy = any(word.startswith("ray::do_on_node") for word in process.cmdline()[:1])
        return is_busy and any(parent.pid in raylets for parent in process.parents())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def nodes() -> Iterator[ThreeNodes]:
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15: beside other load, the tests would take hours
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        three = ThreeNodes(cluster)
        three.fill()
        yield three
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def small(tiny_recipe_file, tmp_path_factory) -> Path:
    """A recipe of one seed: a dense run, a shared round, and three cells."""
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    tree = yaml.safe_load(tiny_recipe_file.read_text("utf-8"))
    methods = [{"schedule": "iterative-retrain", "rate": 0.4}]
    tree |= {"seeds": [0], "prune": {"criteria": ["random"], "methods": methods, "sparsities": [0.5, 0.6]}}
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> Path:
    """The run folder of the study in one process."""
    root = tmp_path_factory.mktemp("whole") / "run"
    run_study(load_recipe(small), root)
    return root


def start(recipe: Path, root: Path, nodes: ThreeNodes, *more: str) -> children.Child:
    words = ["study", recipe, "--out", root, "--executor", "ray", "--address", nodes.cluster.address]
    return children.start(children.COMMAND, *words, "--max-retries", "9", "--json", *more)


def assert_is(root: Path, whole: Path) -> None:
    """Assert that all files of the study are there, that they are those of one process, and that nothing is left."""
    assert_same_runs(whole, root, runs=len(read_run(whole).results) + 1)
    names = {
        path.relative_to(whole)
        for pattern in ("*.safetensors", "result.json", "dense.json", "round.json")
        for path in whole.rglob(pattern)
    }
    assert names == {
        path.relative_to(root)
        for pattern in ("*.safetensors", "result.json", "dense.json", "round.json")
        for path in root.rglob(pattern)
    }
    for name in names:
        if name.suffix == ".safetensors":
            assert (root / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("folder", ["shared", "sent"])
def test_a_cluster_gives_the_files_of_one_process(folder, small, whole, nodes, tmp_path) -> None:
    nodes.fill()
    more = ["--no-shared-folder"] if folder == "sent" else []
    driver, seen = start(small, tmp_path / "run", nodes, *more), set()
    while driver.poll() is None:
        if (tmp_path / "run/recipe.yaml").exists() and (tmp_path / "run/machine.json").exists():
            status = study_progress(read_run(tmp_path / "run"), busy=True)
            seen |= {doing for worker in status.workers for doing in worker.doing}
        time.sleep(0.2)
    said = driver.finish()
    assert said.returncode == 0, said.stderr
    assert seen & {"dense-seed0", *read_run(whole).results}
    assert not (tmp_path / "run/.workers.json").exists()
    assert json.loads(said.stdout)["done"] == len(read_run(whole).results) + 1
    assert_is(tmp_path / "run", whole)


def test_a_run_that_a_user_must_mend_is_not_tried_again(small, nodes, tmp_path) -> None:
    """A training that diverges is refused once, with everything that needs it."""
    nodes.fill()
    said = start(small, tmp_path / "run", nodes, "--set", "train.learning_rate=1e30").finish()
    assert said.returncode == 1
    assert re.search(r"6 tasks failed.* dense-seed0: .*training diverged in epoch 1", " ".join(said.stderr.split()))
    assert "is tried again" not in said.stderr
    assert not read_run(tmp_path / "run").dense


@contextmanager
def one_good_node(nodes: ThreeNodes, broken: Path) -> Iterator[Any]:
    """Yield the one node where tasks can be done; on the other node, which uses the folder `broken`, all fail."""
    (broken / f"lxcompress-{os.getuid()}.lock").mkdir(parents=True)  # a file is expected there
    nodes.fill()
    bad = nodes.cluster.add_node(**NODE, env_vars={"TMPDIR": str(broken)})
    for _ in range(2):
        nodes.cluster.remove_node(nodes.nodes.pop())
    try:
        yield nodes.nodes[0]
    finally:
        nodes.cluster.remove_node(bad)


def test_a_task_that_failed_on_a_node_is_tried_on_another(small, nodes, tmp_path) -> None:
    """A node where every task fails is free again at once, so that it would get the next attempt too."""
    with one_good_node(nodes, tmp_path / "broken"):
        said = start(small, tmp_path / "run", nodes, "--no-shared-folder", "--max-retries", "1").finish()
    assert said.returncode == 0, said.stderr
    assert "is tried again (attempt 2), because: IsADirectoryError" in said.stderr


def test_a_study_ends_whose_last_good_node_is_lost(small, nodes, tmp_path) -> None:
    """Tasks that wait for that node are given up, and not kept waiting."""
    with one_good_node(nodes, tmp_path / "broken") as good:
        driver = start(small, tmp_path / "run", nodes, "--no-shared-folder", "--max-retries", "1")
        while driver.poll() is None and not (tmp_path / "run/seeds/0/dense/dense.json").exists():
            time.sleep(0.05)
        nodes.nodes.remove(good)
        nodes.cluster.remove_node(good, allow_graceful=False)
        said = driver.finish()
    assert said.returncode == 1, said.stderr
    assert "tasks failed, the others are done" in said.stderr


START = """
import ray
from lxcompress.study.ray_pool import RayOptions, connected
with connected(RayOptions()):
    print(len(ray.nodes()))
"""


def test_without_an_address_ray_starts_here_whatever_ran_before() -> None:
    """A cluster that was killed leaves its address, where Ray would wait for it."""
    with tempfile.TemporaryDirectory(prefix="lx") as folder:  # the names of sockets must be short
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray/ray_current_cluster").write_text("127.0.0.1:1")
        said = children.run(START, env={**os.environ, "RAY_TMPDIR": folder})
    assert (said.returncode, said.stdout) == (0, "1\n"), said.stderr


@dataclass
class Round:
    """A study in which a node, a worker and the driver are killed; `killed` has those that were, in their order."""

    recipe: Path
    root: Path
    nodes: ThreeNodes
    more: list[str]
    killed: list[str] = field(default_factory=list)
    finished: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def start(self) -> None:
        """Start the driver."""
        self.driver = start(self.recipe, self.root, self.nodes, *self.more)

    def wait(self, seconds: float, *, runs: int = 0) -> bool:
        """Wait until so many runs are done, then for so many seconds; return whether the driver still runs then."""
        end = time.monotonic() + LONGEST_S
        while len(self.list_last_files()) < runs and time.monotonic() < end and self.driver.poll() is None:
            time.sleep(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.driver.poll() is None:
            time.sleep(0.05)
        return self.driver.poll() is None

    def kill(self, what: str, draw: random.Random) -> None:
        """Kill a node, a worker or the driver, which is started again. Wait for a worker that does a task."""
        for path in self.list_last_files():
            self.finished.setdefault(path, identity(path))
        if what == "node":
            self.nodes.remove_one(draw)
        elif what == "worker":
            while not self.nodes.kill_worker(draw):
                if not self.wait(0.05):
                    return
        else:
            self.driver.send_signal(signal.SIGKILL)
            if self.driver.finish().returncode != -signal.SIGKILL:
                return  # it had ended by itself
            self.start()
        self.killed.append(what)

    def list_last_files(self) -> list[Path]:
        """Return the files that mark runs and rounds as done."""
        return [path for folder, name in LAST_FILES.items() for path in self.root.glob(f"{folder}/{name}")]


def identity(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written again."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


@pytest.mark.parametrize("number", range(FIRST, LAST + 1))
def test_kills_at_random_moments_change_nothing(number, small, whole, nodes, tmp_path) -> None:
    """A node, a worker and the driver are killed, in any order. What was done before is not done again."""
    nodes.fill()
    draw = random.Random(f"{SEED} {number}")
    study = Round(small, tmp_path / "run", nodes, ["--no-shared-folder"] if number % 2 else [])
    study.start()
    moments = sorted(draw.choices(range(len(read_run(whole).results) + 2), k=3))
    for what, runs in zip(draw.sample(["node", "worker", "driver"], 3), moments, strict=True):
        if study.wait(draw.uniform(0, 4), runs=runs):
            study.kill(what, draw)
    assert not study.wait(LONGEST_S), f"takes too long: {sorted(study.root.rglob('*'))}"
    said = study.driver.finish()
    assert said.returncode == 0, f"{study.killed}: {said.stderr}"
    assert_is(study.root, whole)
    assert {path: identity(path) for path in study.finished} == study.finished
    how, done = "sent" if number % 2 else "shared", len(study.finished)
    print(
        f"round {number}: same files; {how}; killed: {', '.join(study.killed)}; {done} runs were done before",
        flush=True,
    )
