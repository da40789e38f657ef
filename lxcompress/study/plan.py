"""Plan: what a study will do and cost, told before it starts, from a few real steps."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import LxmertConfig

from lxcompress.data.catalogue import ANSWERS, QUESTIONS
from lxcompress.data.split import AnswerTask, Split
from lxcompress.data.tasks import data_files
from lxcompress.filenames import MASK_FILE
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model
from lxcompress.models.flops import count_flops
from lxcompress.recipe import Cell, QuestionsData, Recipe
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import check_same_study, load_start_task, resolve_recipe
from lxcompress.study.choose import check_cells, sparsities_of
from lxcompress.study.run import choose_cells, missing_runs
from lxcompress.study.seed import REWIND_AT, dense_source, make_start
from lxcompress.study.twins import wants_twin
from lxcompress.study.work import steps_of
from lxcompress.study.worker import this_worker
from lxcompress.training import fit as fitting
from lxcompress.training.device import DeviceSpec, choose_device, move
from lxcompress.training.feed import move_to_device_if_it_fits

TIMED_STEPS = 8
EXPORTED = 4
"""What the six twins of a ticket take on disk, as a multiple of the weights: 1 + 1/4, twice, and a smaller model's."""
TAUGHT = 4 / 3
"""A step beside a teacher: its forward pass comes to a forward and a backward, which costs twice as much."""
SETTLING_STEPS = 5
"""The first steps on a GPU compile, and capture their graph; they are done before the timed ones, once a process."""


@dataclass(frozen=True)
class Plan:
    """The runs that are missing, and what they take on this machine; durations are of one process."""

    dense_runs: int
    cells: int
    rounds: int
    """trainings between that several cells share"""
    twins: int
    """structured tickets that may be drawn beside the picked one: 1 at most"""
    steps_a_run: int
    train_questions: int
    valid_questions: int
    device: str
    precision: str
    step_s: float
    scoring_s: float
    settling_s: float
    duration_s: float
    disk_bytes: int
    free_bytes: int
    peak_bytes: int | None
    """GPU memory of a timed step"""
    absent: str | None = None
    """the first file that is missing, where the plan is made of published counts and not of real steps"""


def plan_study(recipe: Recipe, root: Path, *, only: str = "*") -> Plan:
    """The Plan of what `run_study` would do; writes nothing. Raises LxError as that would."""
    recipe, run = resolve_recipe(recipe), RunDir(root)
    cells = choose_cells(recipe, only)
    check_same_study(recipe, run)
    missing = missing_runs(recipe, cells, run)
    device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
    task = load_start_task(recipe)
    model, start = make_start(recipe, task, recipe.seeds[0])
    check_cells(recipe, model, [each for each in missing if isinstance(each, Cell)])
    move(model.module, device)
    rows = recipe.train.batch_size // recipe.train.accumulate
    task = move_to_device_if_it_fits(task, device, recipe.train.data_on_device, rows=rows)
    settling, stamps = SETTLING_STEPS if device.is_cuda else 0, [time.perf_counter()]
    many = min((TIMED_STEPS + settling) * recipe.train.batch_size, len(task.train))
    sample = replace(
        task, train=_first(task.train, many), valid=_first(task.valid, TIMED_STEPS * recipe.train.eval_batch_size)
    )

    def stamp(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        device.wait()
        stamps.append(time.perf_counter())

    fitting.fit(
        model.module,
        sample,
        answer=model.family.answer,
        settings=recipe.train.model_copy(update={"epochs": 1}),
        device=device,
        seed=0,
        progress=stamp,
    )
    scoring_s = _score_again(model, sample, recipe, device) * len(task.valid) / len(sample.valid)
    laps = [after - before for before, after in itertools.pairwise(stamps)]
    settled = sorted(laps[settling:] or laps)
    step_s = settled[len(settled) // 2]
    settling_s = max(0.0, sum(laps[:settling]) - settling * step_s)
    steps = steps_of(recipe, task)
    rounds = missing_rounds(missing, run)
    done_anew = [each for each in missing if isinstance(each, Cell) or dense_source(recipe, each) == each]
    scorings = {True: recipe.train.epochs + 2, False: recipe.train.epochs + 1}
    trained = sum(_share(each) for each in done_anew) + sum(_share(cell) for cell in rounds.values())
    scored = sum(scorings[isinstance(each, Cell)] for each in done_anew) + recipe.train.epochs * len(rounds)
    twins = int(only == "*" and wants_twin(recipe, run))
    trained, scored = trained + twins, scored + twins * scorings[True]
    size = sum(tensor.numel() * tensor.element_size() for tensor in start.values())
    mask = sum(tensor.numel() for tensor in model.prunable.values()) // 8
    return Plan(
        dense_runs=sum(isinstance(each, int) for each in missing),
        cells=sum(isinstance(each, Cell) for each in missing),
        steps_a_run=steps,
        train_questions=len(task.train),
        valid_questions=len(task.valid),
        device=str(device.torch_device),
        precision=device.precision,
        step_s=step_s,
        scoring_s=scoring_s,
        settling_s=settling_s,
        rounds=len(rounds),
        twins=twins,
        duration_s=(settling_s if done_anew else 0.0) + trained * steps * step_s + scored * scoring_s,
        disk_bytes=_disk(missing, size, mask) + len(rounds) * (size + mask) + twins * (1 + EXPORTED) * size,
        free_bytes=shutil.disk_usage(_standing(root)).free,
        peak_bytes=_peak(device),
    )


def estimate_study(recipe: Recipe, root: Path, absent: Path, *, only: str = "*") -> Plan | None:
    """Return the Plan of a study whose data are not here, from published counts; None where they are not known.

    A step takes its matrix products at the speed of one that is timed: real steps are slower.
    """
    recipe, run = resolve_recipe(recipe), RunDir(root)
    data, config = recipe.data, _published_config(recipe)
    if config is None or not isinstance(data, QuestionsData):
        return None
    train, valid = _count_published(data.train, data.max_train), _count_published(data.valid, data.max_valid)
    if train is None or valid is None:
        return None
    missing = missing_runs(recipe, choose_cells(recipe, only), run)
    rounds = missing_rounds(missing, run)
    device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
    with torch.device("meta"):
        model = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
    question_s = count_flops(model, tokens=data.tokens) / _product_speed(device)
    steps = recipe.train.epochs * -(-train // recipe.train.batch_size)
    done_anew = [each for each in missing if isinstance(each, Cell) or dense_source(recipe, each) == each]
    trained = sum(_share(each) for each in done_anew) + sum(_share(cell) for cell in rounds.values())
    scored = sum(recipe.train.epochs + 1 + isinstance(each, Cell) for each in done_anew)
    scored += recipe.train.epochs * len(rounds)
    step_s, scoring_s = 3 * question_s * recipe.train.batch_size, question_s * valid
    size, mask = 4 * model.whole, sum(tensor.numel() for tensor in model.prunable.values()) // 8
    return Plan(
        dense_runs=sum(isinstance(each, int) for each in missing),
        cells=sum(isinstance(each, Cell) for each in missing),
        rounds=len(rounds),
        twins=0,
        steps_a_run=steps,
        train_questions=train,
        valid_questions=valid,
        device=str(device.torch_device),
        precision=device.precision,
        step_s=step_s,
        scoring_s=scoring_s,
        settling_s=0.0,
        duration_s=trained * steps * step_s + scored * scoring_s,
        disk_bytes=_disk(missing, size, mask) + len(rounds) * (size + mask),
        free_bytes=shutil.disk_usage(_standing(root)).free,
        peak_bytes=None,
        absent=str(absent),
    )


def find_absent(recipe: Recipe) -> Path | None:
    """Return the first file of the recipe's questions or start model that is not here."""
    start = Path(recipe.model.start)
    files = [path for name, paths in data_files(recipe.data).items() for path in paths]
    files += [start] if start.suffix == ".pth" else []
    return next((path for path in files if not path.exists()), None)


def _count_published(paths: Sequence[Path], most: int | None) -> int | None:
    """Return how many questions published files have together, `most` at most; None where one is not known.

    A file is known by the last two parts of its path.
    """
    names = ["/".join(path.parts[-2:]) for path in paths]
    if any(name not in QUESTIONS for name in names):
        return None
    count = sum(QUESTIONS[name] for name in names)
    return count if most is None else min(count, most)


def _published_config(recipe: Recipe) -> LxmertConfig | None:
    """Return the config of the authors' LXMERT with the published answers; None for another start model."""
    if Path(recipe.model.start).suffix != ".pth" or recipe.data.kind not in ANSWERS:
        return None
    config = LxmertConfig(num_qa_labels=ANSWERS[recipe.data.kind])
    lxmert.FAMILY.set_images(config, 2 if recipe.data.kind == "nlvr2" else 1)
    return config


def _product_speed(device: DeviceSpec) -> float:
    """Return the FLOPs a second of a matrix product on the device, in the precision of training."""
    kind = torch.bfloat16 if device.precision == "bf16" else torch.float32
    side, count = 1024, 4
    matrix = torch.ones(side, side, dtype=kind, device=device.torch_device)
    matrix @ matrix
    device.wait()
    started = time.perf_counter()
    for _ in range(count):
        matrix @ matrix
    device.wait()
    return 2 * side**3 * count / (time.perf_counter() - started)


def missing_rounds(missing: Sequence[int | Cell], run: RunDir) -> dict[Path, Cell]:
    """The folder of each round of iterative-retrain that is still to do, and a cell that goes through it."""
    found: dict[Path, Cell] = {}
    for cell in (each for each in missing if isinstance(each, Cell)):
        for sparsity in sparsities_of(cell.method, cell.sparsity)[:-1]:
            folder = run.round(cell.seed, cell.method.id, sparsity)
            if not (folder / MASK_FILE).exists():
                found[folder] = cell
    return found


def _share(each: int | Cell) -> float:
    """The time of one training, beside a dense run's: twice as long, without its first steps, beside a teacher."""
    if isinstance(each, int):
        return 1.0
    method = each.method
    skipped = (method.rewind_at or REWIND_AT) if method.rewind == "step" else 0.0
    return (method.length - skipped) * (TAUGHT if method.distill else 1.0)


def _score_again(model: Model, sample: AnswerTask, recipe: Recipe, device: DeviceSpec) -> float:
    """Seconds of a scoring of the sample; the fit has scored it once, so all is warm."""
    device.wait()
    started = time.perf_counter()
    fitting.score(model.module, sample, answer=model.family.answer, settings=recipe.train, device=device)
    device.wait()
    return time.perf_counter() - started


def _first(split: Split, rows: int) -> Split:
    return split.take(torch.arange(min(rows, len(split))).to(split.scene.device))


def _disk(missing: Sequence[int | Cell], size: int, mask: int) -> int:
    """Bytes that the missing runs leave, and the largest checkpoint (weights and two moments) beside them."""
    kept = sum(2 * size if isinstance(each, int) else size + mask for each in missing)
    return kept + (3 * size if missing else 0)


def _standing(root: Path) -> Path:
    """The nearest folder above `root`, or itself, that is there."""
    return next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())


def _peak(device: DeviceSpec) -> int | None:
    return torch.cuda.max_memory_reserved(device.torch_device) if device.is_cuda else None
