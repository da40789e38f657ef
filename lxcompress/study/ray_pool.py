"""RayPool: a TaskPool on a Ray cluster (Ray Core tasks), with or without a folder that its nodes share.

Without a shared folder, what a task needs goes through Ray's object store: once to each node, where it is written to a
temporary folder. The files of a finished task come back whole, and the driver writes them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from lxcompress.claims import Holder, describe_this_process
from lxcompress.errors import RunError
from lxcompress.recipe import Recipe
from lxcompress.rundir import RunDir, write_text
from lxcompress.study.node_folder import enter_node_folder, find_node_folder, remove_node_folder
from lxcompress.study.parcel import pack, unpack
from lxcompress.study.schedule import TaskOutcome
from lxcompress.study.task_worker import StudyJob, TaskWorker
from lxcompress.study.tasks import StudyTask, folder_of, is_done, list_inputs

LOOK_S = 5.0
"""The seconds between two looks at the size of the cluster."""
SPARE = 2
"""How many tasks are given to Ray for each one that can run now; the others wait there, so that no node waits."""


@dataclass(frozen=True)
class RayOptions:
    """How a study uses Ray. `address` None starts Ray on this machine; `auto` finds the cluster of this machine.

    A task gets `cpus` cores and `gpus` GPUs; None is 1 if the cluster has GPUs and the recipe uses them. It is tried
    again at most `max_retries` times when its worker or its node is lost.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None
    max_retries: int = 3
    has_shared_folder: bool = True


@contextmanager
def connected(options: RayOptions) -> Iterator[None]:
    """Connect to the cluster, or start Ray on this machine, until the block ends. Raises RunError."""
    if options.address is not None:
        _check_reachable(options.address)
    try:
        import ray
    except ImportError:
        raise RunError("--executor ray: Ray is not installed; install it with: pip install 'lxcompress[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield
        return
    address = options.address
    settings: dict[str, Any] = {}
    if address is None and "RAY_ADDRESS" not in os.environ:
        # Without an address, Ray would look for the last cluster of this machine, even if that is gone.
        address, settings = "local", {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(options.address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise RunError if nothing answers at an address HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> RunError:
    """Return the error for an address without a cluster."""
    return RunError(
        f"--address {address}: no Ray cluster answers there ({error}); start one with ray start --head, or leave "
        "--address out"
    )


class RayPool:
    """A TaskPool on the cluster that this process is connected to, for the tasks `tasks` of one study."""

    def __init__(self, recipe: Recipe, run: RunDir, tasks: Sequence[StudyTask], options: RayOptions) -> None:
        import ray

        self.run, self.options = run, options
        self._inputs = {} if options.has_shared_folder else list_inputs(tasks)
        self._driver = describe_this_process()
        self._board = _start_board()
        self._job = ray.put(StudyJob(recipe, run.root.absolute(), options.has_shared_folder, self._driver))
        gpus = options.gpus
        if gpus is None:
            gpus = float(recipe.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0)
        self._wanted = {"CPU": options.cpus, "GPU": gpus}
        self._settings = {"num_cpus": options.cpus, "num_gpus": gpus, "max_retries": 0, "scheduling_strategy": "SPREAD"}
        self._do = ray.remote(do_on_node)
        self._running: dict[Any, StudyTask] = {}
        self._failed_on: dict[str, set[str]] = {}  # id of a task -> ids of the nodes where an attempt failed
        self._restricted: set[Any] = set()  # the running attempts that may not use all nodes
        self._parcels: dict[str, Any] = {}
        self._uses = Counter(need.id for task in tasks for need in self._inputs_of(task))
        self._capacity, self._looked_s, self._shown_s = 0, 0.0, 0.0

    def capacity(self) -> int:
        """Return how many tasks the cluster takes: SPARE times as many as can run at a time, at least SPARE."""
        import ray

        if not self._capacity or time.monotonic() - self._looked_s > LOOK_S:
            found, self._looked_s = ray.cluster_resources(), time.monotonic()
            slots = min((found.get(name, 0.0) // amount for name, amount in self._wanted.items() if amount), default=1)
            self._capacity = SPARE * max(1, int(slots))
        return self._capacity

    def submit(self, task: StudyTask) -> None:
        """Give a task to Ray."""
        inputs = [(need, self._parcel(need)) for need in self._inputs_of(task)]
        settings, is_restricted = self._settings, self._has_another_node(task)
        if is_restricted:
            failed_on = ",".join(sorted(self._failed_on[task.id]))
            settings = {**settings, "label_selector": {"ray.io/node-id": f"!in({failed_on})"}}
        attempt = self._do.options(**settings).remote(self._job, task, inputs, self._board)
        self._running[attempt] = task
        if is_restricted:
            self._restricted.add(attempt)

    def wait(self) -> Sequence[TaskOutcome]:
        """Wait until a task ends; write the files that it returned, and return its outcome."""
        import ray

        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait(list(self._running), timeout=LOOK_S)
            self._show_nodes()
            self._cancel_attempts_without_node()
        attempt = ready[0]
        task = self._running.pop(attempt)
        self._restricted.discard(attempt)
        try:
            outcome: TaskOutcome = ray.get(attempt)
            if outcome.files is not None:
                unpack(outcome.files, self.run.root)
                outcome = replace(outcome, files=None)
        except ray.exceptions.RayError as error:
            self._note_failure(task)
            return [TaskOutcome(task.id, failure=_first_line(error))]
        except RunError as error:
            return [TaskOutcome(task.id, failure=str(error))]
        if outcome.failure is None:
            self._forget(task)
        return [outcome]

    def close(self) -> None:
        """Remove the temporary folders of the study from all nodes."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self.options.has_shared_folder:
            return
        self.run.workers.unlink(missing_ok=True)
        clean = ray.remote(clean_node)
        for node in ray.nodes():
            if node["Alive"]:
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ray.wait([clean.options(num_cpus=0, scheduling_strategy=strategy).remote(self._driver)], timeout=LOOK_S)

    def _show_nodes(self) -> None:
        """Write which node does which task for `lxcompress status`; with a shared folder, the leases show it."""
        import ray

        if self.options.has_shared_folder or time.monotonic() - self._shown_s < LOOK_S:
            return
        self._shown_s = time.monotonic()
        with suppress(ray.exceptions.RayError):  # the node of the board may be lost
            begun: dict[str, BegunTask] = ray.get(self._board.list.remote(), timeout=LOOK_S)
            running = {task.id for task in self._running.values()}
            shown = [
                {"node": task.node, "pid": task.pid, "doing": name} for name, task in begun.items() if name in running
            ]
            write_text(self.run.workers, json.dumps(shown))

    def _note_failure(self, task: StudyTask) -> None:
        """Note the node on which an attempt failed, so that the next attempt is made on another."""
        import ray

        with suppress(ray.exceptions.RayError):  # the node of the board may be lost
            begun: dict[str, BegunTask] = ray.get(self._board.list.remote(), timeout=LOOK_S)
            if task.id in begun:
                self._failed_on.setdefault(task.id, set()).add(begun[task.id].node_id)

    def _has_another_node(self, task: StudyTask) -> bool:
        """Return whether a task failed on some nodes, and another node that is large enough for it is alive."""
        import ray

        failed_on = self._failed_on.get(task.id)
        if not failed_on:
            return False
        others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in failed_on]
        return any(
            all(node["Resources"].get(name, 0.0) >= amount for name, amount in self._wanted.items()) for node in others
        )

    def _cancel_attempts_without_node(self) -> None:
        """Cancel the attempts for which no node is left: Ray would wait for ever."""
        import ray

        for attempt in self._restricted:
            if not self._has_another_node(self._running[attempt]):
                ray.cancel(attempt)

    def _inputs_of(self, task: StudyTask) -> Sequence[StudyTask]:
        """Return the tasks whose files a task reads, if the machines share no folder."""
        return self._inputs.get(task.id, ())

    def _parcel(self, task: StudyTask) -> Any:
        """Return a reference to the files of a task that is done; they are read from the run folder once."""
        import ray

        if task.id not in self._parcels:
            self._parcels[task.id] = ray.put(pack(self.run, task))
        return self._parcels[task.id]

    def _forget(self, task: StudyTask) -> None:
        """Free the files that no other task reads."""
        for need in self._inputs_of(task):
            self._uses[need.id] -= 1
            if not self._uses[need.id]:
                self._parcels.pop(need.id, None)


@dataclass(frozen=True)
class BegunTask:
    """The last start of a task: the name of the machine, the process, and Ray's id of the node."""

    node: str
    pid: int
    node_id: str


class NodeBoard:
    """An actor of Ray that knows which node does which task."""

    def __init__(self) -> None:
        self.begun: dict[str, BegunTask] = {}

    def begin(self, task_id: str, task: BegunTask) -> None:
        """Note that a task begins."""
        self.begun[task_id] = task

    def list(self) -> dict[str, BegunTask]:
        """Return where the tasks were begun: id of the task -> BegunTask."""
        return self.begun


def _start_board() -> Any:
    """Start a NodeBoard on the node of the driver."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(NodeBoard).options(num_cpus=0, scheduling_strategy=here).remote()


_workers: dict[tuple[str, bool], TaskWorker] = {}
"""The worker of this process; a process of Ray may do tasks of one study after another."""


def do_on_node(job: StudyJob, task: StudyTask, inputs: Sequence[tuple[StudyTask, Any]], board: Any) -> TaskOutcome:
    """Do a task in a process of Ray, and tell `board`; without a shared folder, the outcome has its files."""
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    board.begin.remote(task.id, BegunTask(socket.gethostname(), os.getpid(), node_id))
    if not job.is_shared:
        job = replace(job, root=find_node_folder(job.driver))
    key = (str(job.root), job.is_shared)
    if key not in _workers:
        _workers.clear()
        if not job.is_shared:
            enter_node_folder(job.root, job.driver)
        _workers[key] = TaskWorker(job)
    worker = _workers[key]
    for need, ref in inputs:
        with worker.run.alone(f"inputs-{need.id}"):
            if not is_done(worker.run, need):
                unpack(ray.get(ref), worker.run.root)
    outcome = worker.do(task)
    if job.is_shared or outcome.failure or outcome.refusal:
        return outcome
    outcome = replace(outcome, files=pack(worker.run, task))
    if task.kind in ("cell", "twin"):
        shutil.rmtree(folder_of(worker.run, task), ignore_errors=True)
    return outcome


def clean_node(driver: Holder) -> None:
    """Remove the temporary folder of the study of `driver` from a node."""
    remove_node_folder(find_node_folder(driver))


def _first_line(error: Exception) -> str:
    """Return the first line of an error of Ray; for an exception of a task, the last one, which names the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    is_of_task = type(error).__name__.startswith("RayTaskError")
    return (lines[-1 if is_of_task else 0] if lines else type(error).__name__)[:200]
