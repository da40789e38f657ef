"""Prove on one GPU, in at most 8 minutes, that training on CUDA is right and fast.

    python bench/gpu_proof.py [--device cuda] [--out runs/gpu-proof] [--save]
    python bench/gpu_proof.py --device cpu --small

Each step runs in a process of its own, with its own limit of time. Its result is written to OUT/steps/STEP.json at
once, and its output to OUT/steps/STEP.log. A table of all steps comes last. The exit code is 0 if no step failed and
none is left over, else 1. The same command again does what is left over, and repeats no finished step; --again STEP
repeats that one. With --save the results are also written to bench/results/MACHINE/gpu_proof.json.

With --small, models are small and runs are short: this shows on a CPU that the script itself works. What needs a GPU is
skipped there, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import gpu_measures as measures
import gpu_steps as steps
from gpu_setup import Figures, Setup, Step, StepFailedError, StepSkippedError
from train_throughput import folder_name

from lxcompress.machine import describe_machine
from lxcompress.rundir import write_text

POLL_S = 0.02


@dataclass(frozen=True)
class Task:
    """A step, the most seconds that it may take on a GPU, and what passes."""

    step: Step
    limit_s: float
    passes: str


TASKS: dict[str, Task] = {
    "device": Task(steps.find_device, 30, "the device is found"),
    "optimizers": Task(steps.compare_optimizers, 30, "within 1e-5 of plain ones in fp32 on the CPU"),
    "graphs": Task(steps.compare_graphs, 60, "losses within 1e-6 of those without graphs"),
    "data": Task(steps.compare_data, 60, "losses within 1e-6: data on the GPU, or copied"),
    "bf16": Task(steps.compare_precision, 60, "losses within 3 % of those in fp32"),
    "memory-error": Task(steps.name_the_knob, 45, "the error names train.accumulate and train.batch_size"),
    "masks": Task(measures.select_masks, 60, "equal to those of a stable sort on the device"),
    "plan": Task(measures.plan, 180, "the plan is made"),
    "study": Task(measures.study, 180, "a dense run and two cells are finished"),
    "peak-memory": Task(measures.compare_peak, 10, "within 10 % of the plan"),
    "throughput": Task(measures.measure_throughput, 180, "8 x the plain loop at batch 32; 40 % of the matmul rate"),
    "compile": Task(steps.compare_compiled, 120, "losses within 0.1 % of those that are not compiled"),
    "resume": Task(steps.resume_after_kill, 150, "the same weights after SIGKILL"),
    "energy": Task(measures.measure_energy, 60, "the GPU's counter is read"),
}
"""Name of a step -> its Task, in the order in which the steps run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small models and short runs")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-proof"), help="folder of the results")
    parser.add_argument("--steps", nargs="+", default=list(TASKS), choices=list(TASKS), help="do only these steps")
    parser.add_argument("--again", nargs="+", default=[], choices=list(TASKS), help="repeat these finished steps")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no step after so many minutes")
    parser.add_argument("--batches", type=int, nargs="+", default=[256], help="batch sizes to measure besides 32")
    parser.add_argument("--save", action="store_true", help="write the results to bench/results/MACHINE too")
    options = parser.parse_args()
    setup = Setup(options.device, options.small, options.out, tuple(options.batches))
    (options.out / "steps").mkdir(parents=True, exist_ok=True)
    # All steps share one cache of compiled kernels. This process starts no CUDA: a fork could not use it then.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str((options.out / "compiled").resolve())
    deadline = time.monotonic() + 60 * options.minutes
    for name in options.steps:
        if name in options.again or read_record(setup, name) is None:
            record = run_step(setup, name, deadline)
            print(line(name, record), flush=True)
            if name == "device" and record is not None and record["state"] == "failed":
                break  # nothing else can be done
    records = {name: read_record(setup, name) for name in TASKS}
    print_table(records)
    if options.save:
        save(setup, records)
    done = [records[name] for name in options.steps]
    sys.exit(int(any(record is None or record["state"] == "failed" for record in done)))


def record_path(setup: Setup, name: str) -> Path:
    """Return the file of a step's result."""
    return setup.folder / "steps" / f"{name}.json"


def read_record(setup: Setup, name: str) -> dict | None:
    """Return the result of a step that is finished, on this kind of device and of this size; else None."""
    path = record_path(setup, name)
    record = json.loads(path.read_text()) if path.exists() else None
    is_same = record is not None and (record["device"], record["small"]) == (setup.kind, setup.is_small)
    return record if is_same else None


def run_step(setup: Setup, name: str, deadline: float) -> dict | None:
    """Run a step in a process of its own; return its result, or None if no time is left to begin it."""
    if time.monotonic() >= deadline:
        return None
    path, started = record_path(setup, name), time.monotonic()
    path.unlink(missing_ok=True)
    end = started + TASKS[name].limit_s
    child = os.fork()
    if child == 0:
        os.setsid()
        _work(setup, name)
    code = wait_for(child, min(end, deadline))
    if code is None and deadline < end:
        return None  # the time of all steps is over, not that of this one
    if read_record(setup, name) is None:
        over, ended = f"took longer than {TASKS[name].limit_s:.0f} s", f"its process ended with {code}; see {name}.log"
        reason = over if code is None else ended
        write_record(setup, name, "failed", time.monotonic() - started, reason=reason)
    return read_record(setup, name)


def wait_for(child: int, until: float) -> int | None:
    """Wait for a child process, and return its exit code; at the time `until`, kill its group and return None."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_S)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # the child has not yet begun its own group
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _work(setup: Setup, name: str) -> None:
    """Do a step, and write its result: the whole life of the child process."""
    log = os.open(record_path(setup, name).with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    started, state, reason, figures = time.monotonic(), "passed", "", {}
    try:
        figures = TASKS[name].step(setup)
    except StepSkippedError as error:
        state, reason = "skipped", str(error)
    except StepFailedError as error:
        state, reason = "failed", str(error)
    except BaseException as error:
        os.write(2, traceback.format_exc().encode())
        state, reason = "failed", f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    try:
        write_record(setup, name, state, seconds, reason=reason, figures=figures)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def write_record(
    setup: Setup, name: str, state: str, seconds: float, *, reason: str, figures: Figures | None = None
) -> None:
    """Write the result of a step: passed, failed or skipped, why, and what it measured."""
    record = {
        "step": name,
        "state": state,
        "reason": reason,
        "passes": TASKS[name].passes,
        "seconds": round(seconds, 2),
        "device": setup.kind,
        "small": setup.is_small,
        "figures": figures or {},
    }
    write_text(record_path(setup, name), json.dumps(record, indent=1) + "\n")


def line(name: str, record: dict | None) -> str:
    """Return a step's line of the table."""
    if record is None:
        return f"{name:<14}{'left over':<10}{'':>8}  not done yet; give the same command again"
    about = record["reason"] or f"{record['passes']}{brief(record['figures'])}"
    return f"{name:<14}{record['state']:<10}{record['seconds']:>7.1f}s  {about}"


def brief(figures: Figures) -> str:
    """Return the figures that are single numbers or words, in brackets."""
    texts = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
        if isinstance(value, (int, float, str)) and len(str(value)) < 40
    ]
    return f" ({', '.join(texts)})" if texts else ""


def print_table(records: dict[str, dict | None]) -> None:
    """Print the results of all steps."""
    print()
    for name, record in records.items():
        print(line(name, record))
    states = [record["state"] if record else "left over" for record in records.values()]
    print("\n" + ", ".join(f"{states.count(state)} {state}" for state in ("passed", "skipped", "failed", "left over")))


def save(setup: Setup, records: dict[str, dict | None]) -> None:
    """Write all results, with the machine, to the machine's folder of bench/results.

    A trial of the script has a file of its own, which never replaces the results of a GPU.
    """
    machine = describe_machine()
    file = "gpu_proof.json" if setup.is_cuda and not setup.is_small else "gpu_proof-trial.json"
    results = {"machine": machine.model_dump(mode="json"), "steps": records}
    path = Path(__file__).parent / "results" / folder_name(machine) / file
    write_text(path, json.dumps(results, indent=1) + "\n")
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
