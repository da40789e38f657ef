"""Steps of bench/gpu_proof.py that measure: a study and its plan, throughput, energy, and the choice of masks."""

from __future__ import annotations

import argparse
import json
import time

import torch
from gpu_setup import Figures, Setup, StepFailedError, StepSkippedError, check_close, read_figures
from mask_selection import PLAIN, run_case
from synthetic import synthetic_task, write_study
from train_throughput import SETTLING, forward_flop, matmul_rate, our_loop, plain_loop

from lxcompress.recipe import Recipe
from lxcompress.rundir import RunDir, read_dense, read_result
from lxcompress.study.plan import plan_study
from lxcompress.study.run import run_study
from lxcompress.training.usage import UsageMeter

AIM_SPEEDUP, AIM_SHARE = 8.0, 0.4
"""The goals on a GPU: the speed-up over the plain loop at batch 32, and the share of the matmul rate."""
PEAK_TOLERANCE = 0.1


def plan(setup: Setup) -> Figures:
    """Plan the study as `lxcompress study --dry-run` does."""
    found = plan_study(_recipe(setup), setup.folder / "study")
    return {
        "step_s": found.step_s,
        "settling_s": found.settling_s,
        "duration_s": found.duration_s,
        "peak_bytes": found.peak_bytes,
    }


def study(setup: Setup) -> Figures:
    """Run a dense run and two cells of the planned study; masks hold and all losses are finite."""
    recipe, root = _recipe(setup), setup.folder / "study"
    started = time.perf_counter()
    run_study(recipe, root)
    run = RunDir(root)
    dense = read_dense(run, 0)
    results = [read_result(run, cell) for cell in recipe.cells()]
    if dense is None or None in results:
        raise StepFailedError("a run of the study is not finished")
    sparsities = [result.sparsity.achieved for result in results if result]
    return {
        "seconds": time.perf_counter() - started,
        "runs": 1 + len(results),
        "steps_a_run": len(dense.epochs) * _study_sizes(setup)[0] // recipe.train.batch_size,
        "sparsities": sparsities,
        "dense_s": sum(epoch.duration_s for epoch in dense.epochs),
        "usage": dense.usage.model_dump() if dense.usage else None,
    }


def _study_sizes(setup: Setup) -> tuple[int, int]:
    """Return the number of training and of validation questions: 200 steps of 32 questions, or 4 steps of 8."""
    return (32, 16) if setup.is_small else (6400, 512)


def _recipe(setup: Setup) -> Recipe:
    """Return the recipe of the study: a dense run and two cells of one epoch on synthetic questions."""
    train_rows, valid_rows = _study_sizes(setup)
    sections = write_study(
        setup.folder / "data", setup.whole, train=train_rows, valid=valid_rows, images=8 if setup.is_small else 512
    )
    return Recipe.model_validate(
        {
            "name": "gpu-proof",
            "seeds": [0],
            "device": setup.kind,
            **sections,
            "train": {"epochs": 1, "batch_size": 8 if setup.is_small else 32, "optimizer": "bert-adam"},
            "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5, 0.9]},
            "export": {"twins": False},
        }
    )


def compare_peak(setup: Setup) -> Figures:
    """Compare the GPU memory of the dense run with that of the plan."""
    setup.need_cuda("the memory of a CPU is not planned")
    results = {name: read_figures(setup, name) for name in ("plan", "study")}
    planned, used = results["plan"]["peak_bytes"], results["study"]["usage"]["peak_bytes"]
    error = check_close(abs(used - planned) / planned, PEAK_TOLERANCE, "the peak memory")
    return {"planned_bytes": planned, "used_bytes": used, "error": error}


def measure_throughput(setup: Setup) -> Figures:
    """Measure questions per second of a study's loop and of the plain loop, in turns."""
    device, sizes = setup.device(), setup.whole
    options = argparse.Namespace(sizes=sizes, steps=2 if setup.is_small else 20)
    batches = (32,) if setup.is_small else (32, *setup.batches)
    task = synthetic_task(max(batches) * (options.steps + SETTLING[setup.kind]), 64 if setup.is_small else 1024, sizes)
    rates: dict[str, list[float]] = {}
    for _ in range(1 if setup.is_small else 2):
        rates.setdefault("plain", []).append(plain_loop(task, options, device))
        for size in batches:
            rate = our_loop(task, options, device, size, device.precision)
            rates.setdefault(f"batch {size}", []).append(rate)
    medians = {name: sorted(values)[len(values) // 2] for name, values in rates.items()}
    best = max((name for name in medians if name != "plain"), key=medians.__getitem__)
    matmul, flop = matmul_rate(device, "bf16"), 3 * forward_flop(sizes)
    figures: Figures = {
        "questions_per_s": rates,
        "times_plain_at_32": medians["batch 32"] / medians["plain"],
        "best": best,
        "times_plain_at_best": medians[best] / medians["plain"],
        "matmul_flop_per_s": matmul,
        "share_of_matmul_rate": medians[best] * flop / matmul,
    }
    figures["aims"] = "judged" if setup.is_cuda and not setup.is_small else "not judged"
    if figures["aims"] == "judged":
        if figures["times_plain_at_32"] < AIM_SPEEDUP:
            raise StepFailedError(f"batch 32 is below {AIM_SPEEDUP} times the plain loop: {json.dumps(figures)}")
        if figures["share_of_matmul_rate"] < AIM_SHARE:
            raise StepFailedError(f"the best batch is below {AIM_SHARE:.0%} of the matmul rate: {json.dumps(figures)}")
    return figures


def measure_energy(setup: Setup) -> Figures:
    """Measure the energy of training, from the GPU's own counter (NVML)."""
    setup.need_cuda("NVML counts the energy of NVIDIA GPUs only")
    device, options = setup.device(), argparse.Namespace(sizes=setup.whole, steps=2 if setup.is_small else 60)
    task = synthetic_task(32 * (options.steps + SETTLING[setup.kind]), 256, setup.whole)
    our_loop(task, options, device, 32, device.precision)  # compiled here, so that the next loop only trains
    with UsageMeter(device) as meter:
        our_loop(task, options, device, 32, device.precision)
        usage = meter.stop()
    if usage is None or usage.energy_j is None:
        raise StepSkippedError("this GPU has no counter of energy, or NVML may not read it")
    return {**usage.model_dump(), "j_a_question": usage.energy_j / len(task.train)}


def select_masks(setup: Setup) -> Figures:
    """Choose masks over all matrices, and compare them with those of a stable sort on the device."""
    figures: Figures = {}
    for ours, plain in PLAIN.items():
        options = {"device": setup.kind, "sizes": setup.whole}
        found = {case: run_case(case, torch.get_num_threads(), **options) for case in (ours, plain)}
        if found[ours]["mask"] != found[plain]["mask"]:
            raise StepFailedError(f"the masks of {ours} and of {plain} differ")
        figures |= {f"{case.replace(' ', '_')}_s": result["seconds"] for case, result in found.items()}
    return figures
