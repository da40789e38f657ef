"""Plan: what a study will do and cost, told before it starts, from a few real steps."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lxcompress.data.tasks import load_task
from lxcompress.models.checkpoints import load_start, load_vocabulary, resolve_start
from lxcompress.recipe import Recipe
from lxcompress.rundir import RunDir
from lxcompress.study.run import agree, check_fit, choose_cells, missing_runs, resolve_recipe, steps_of
from lxcompress.training import fit as fitting
from lxcompress.training.optimise import choose_place

TIMED_STEPS = 8


@dataclass(frozen=True)
class Plan:
    """The runs that are missing, and what they take on this machine."""

    dense_runs: int
    cells: int
    steps_a_run: int
    train_questions: int
    valid_questions: int
    device: str
    step_s: float
    scoring_s: float
    duration_s: float
    disk_bytes: int


def plan_study(recipe: Recipe, root: Path, *, only: str = "*") -> Plan:
    """The Plan of what `run_study` would do; writes nothing. Raises LxError as that would."""
    recipe, run = resolve_recipe(recipe), RunDir(root)
    cells = choose_cells(recipe, only)
    agree(recipe, run)
    missing = missing_runs(cells, run)
    place = choose_place(recipe.device, recipe.train.precision)
    task = load_task(recipe.data, load_vocabulary(resolve_start(recipe.model.start)))
    model, start = load_start(resolve_start(recipe.model.start), task.labels, recipe.seeds[0])
    check_fit(model, task, recipe)
    model.module.to(place.device)
    steps = steps_of(recipe, task)
    batch = recipe.train.batch_size
    few = torch.arange(min(TIMED_STEPS * batch, len(task.train)))
    sample = type(task)(task.train.take(few), task.valid.take(few[: len(task.valid)]), task.labels, task.vocabulary)
    stamps = [time.perf_counter()]
    fitting.fit(
        model.module,
        sample,
        answer=model.family.answer,
        settings=recipe.train.model_copy(update={"epochs": 1}),
        place=place,
        seed=0,
        tell=lambda *_: stamps.append(time.perf_counter()),
    )
    scored = time.perf_counter()
    laps = sorted(after - before for before, after in itertools.pairwise(stamps))
    step_s = laps[len(laps) // 2]
    scoring_s = (scored - stamps[-1]) * len(task.valid) / len(sample.valid)
    dense_runs = sum(isinstance(each, int) for each in missing)
    size = sum(tensor.numel() * tensor.element_size() for tensor in start.values())
    mask = sum(tensor.numel() for tensor in model.prunable.values()) // 8
    scorings = {True: recipe.train.epochs + 1, False: recipe.train.epochs + 2}
    return Plan(
        dense_runs=dense_runs,
        cells=len(missing) - dense_runs,
        steps_a_run=steps,
        train_questions=len(task.train),
        valid_questions=len(task.valid),
        device=str(place.device),
        step_s=step_s,
        scoring_s=scoring_s,
        duration_s=sum(steps * step_s + scorings[isinstance(each, int)] * scoring_s for each in missing),
        disk_bytes=sum(2 * size if isinstance(each, int) else size + mask for each in missing),
    )
