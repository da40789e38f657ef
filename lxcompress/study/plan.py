"""StudyPlan: the runs, time and disk space of a study, estimated before it starts from a few real steps."""

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
from lxcompress.filenames import FIRST_FILE, MASK_FILE
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model
from lxcompress.models.flops import count_flops
from lxcompress.models.source import is_original
from lxcompress.recipe import Cell, QuestionsData, Recipe
from lxcompress.records import is_whole
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import check_same_study, load_start_task, resolve_recipe
from lxcompress.study.choose import check_cells, sparsities_of
from lxcompress.study.context import count_steps
from lxcompress.study.held_out import list_untested
from lxcompress.study.helpers import count_processes, shared_threads
from lxcompress.study.run import choose_cells, missing_runs
from lxcompress.study.seed import REWIND_AT, dense_source, make_start
from lxcompress.study.tasks import StudyRun
from lxcompress.study.twins import wants_twin
from lxcompress.study.worker import this_worker
from lxcompress.training import fit as fitting
from lxcompress.training.device import DeviceSpec, choose_device, move
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.training.spec import FitSpec

TIMED_STEPS = 8
"""How many training steps are timed."""
EXPORTED = 4
"""The size of the six exported files of a format (a ticket and its twins) as a multiple of the size of the weights:
about 2 x (1 + 1/4) for two full-size models, each in fp32 and in int8, and the rest for a smaller model."""
TAUGHT = 4 / 3
"""The time of a step with a teacher, as a multiple of a plain step. A plain step takes the time of three forward
passes: one forward pass, and a backward pass that takes twice as long. The teacher adds a fourth."""
WARMUP_STEPS = 5
"""How many steps on a GPU are not timed: in the first steps of a process, the model is compiled and the CUDA graph is
captured."""


@dataclass(frozen=True)
class StudyPlan:
    """The missing runs of a study, and the time and disk space that they need on this machine."""

    dense_runs: int
    cells: int
    rounds: int
    """how many rounds of iterative-retrain: trainings of a cell before its last, which several cells share"""
    twins: int
    """how many structured tickets may be drawn to compare with the picked ticket: 0 or 1"""
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
    """GPU memory of a timed step; None without a GPU"""
    test_questions: int = 0
    """0 without a test split"""
    absent: str | None = None
    """the first data file that is missing; the plan then comes from published counts, not from real steps"""
    processes: int = 1
    """how many processes share the runs"""


@dataclass(frozen=True)
class MissingWork:
    """The runs and rounds that a study still has to do, and how often they train and score a model."""

    runs: Sequence[StudyRun]
    rounds: dict[Path, Cell]
    """folder of a round -> a cell that goes through this round"""
    epochs: int
    """number of epochs of one training"""
    trained: Sequence[StudyRun]
    """the runs that train a model: all but the dense runs that are copies of another seed's dense run"""

    @property
    def trainings(self) -> float:
        """Return the time of all trainings together, where 1 is the time to train the dense model once."""
        runs = sum(training_length(study_run) for study_run in self.trained)
        return runs + sum(training_length(cell, length=1) for cell in self.rounds.values())

    @property
    def scorings(self) -> int:
        """Return how many times a model is scored: after each epoch, before a dense run, and twice in each cell."""
        extra = sum(1 + isinstance(study_run, Cell) for study_run in self.trained)
        return self.epochs * (len(self.trained) + len(self.rounds)) + extra

    def disk_bytes(self, size: int, mask: int) -> int:
        """Return the bytes that the runs leave on disk, and those of one checkpoint, which is removed at the end.

        `size` is the number of bytes of the model's weights, `mask` that of a mask. A checkpoint has the weights and
        two moments of the optimizer.
        """
        runs = sum(2 * size if isinstance(study_run, int) else size + mask for study_run in self.runs)
        return runs + (3 * size if self.runs else 0) + len(self.rounds) * (size + mask)


def plan_study(recipe: Recipe, root: Path, *, only: str = "*") -> StudyPlan:
    """Return the StudyPlan of what `run_study` would do; write nothing. Raises LxError as `run_study` would."""
    recipe, run = resolve_recipe(recipe), RunDir(root)
    cells = choose_cells(recipe, only)
    check_same_study(recipe, run)
    missing = missing_runs(recipe, cells, run)
    device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
    task = load_start_task(recipe)
    model, start = make_start(recipe, task, recipe.seeds[0])
    check_cells(recipe, model, [study_run for study_run in missing if isinstance(study_run, Cell)])
    move(model.module, device)
    rows = recipe.train.batch_size // recipe.train.accumulate
    task = move_to_device_if_it_fits(task, device, recipe.train.data_on_device, rows=rows)
    warmup, stamps = WARMUP_STEPS if device.is_cuda else 0, [time.perf_counter()]
    most = min((TIMED_STEPS + warmup) * recipe.train.batch_size, len(task.train))
    sample = replace(
        task, train=_first(task.train, most), valid=_first(task.valid, TIMED_STEPS * recipe.train.eval_batch_size)
    )

    def stamp(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        device.wait()
        stamps.append(time.perf_counter())

    one_epoch = FitSpec(recipe.train.model_copy(update={"epochs": 1}))
    processes = count_processes(recipe, this_worker(), len(missing), on_cpu=device.torch_device.type == "cpu")
    with shared_threads(processes):
        fitting.fit(model.module, sample, one_epoch, answer=model.family.answer, device=device, progress=stamp)
        question_s = _time_scoring(model, sample, recipe, device) / len(sample.valid)
    scoring_s, test_s = question_s * len(task.valid), question_s * len(task.test or ())
    laps = [after - before for before, after in itertools.pairwise(stamps)]
    timed_laps = sorted(laps[warmup:] or laps)
    step_s = timed_laps[len(timed_laps) // 2]
    settling_s = max(0.0, sum(laps[:warmup]) - warmup * step_s)
    work = find_missing_work(recipe, missing, run)
    twins = int(only == "*" and wants_twin(recipe, run))
    tested = len(work.trained) + len(list_untested(recipe, run))
    steps = count_steps(recipe, task)
    runs_s = work.trainings * steps * step_s + work.scorings * scoring_s + tested * test_s
    twins_s = twins * (steps * step_s + (recipe.train.epochs + 2) * scoring_s + test_s)
    size = sum(tensor.numel() * tensor.element_size() for tensor in start.values())
    mask = sum(tensor.numel() for tensor in model.prunable.values()) // 8
    return StudyPlan(
        dense_runs=sum(isinstance(study_run, int) for study_run in missing),
        cells=sum(isinstance(study_run, Cell) for study_run in missing),
        steps_a_run=steps,
        train_questions=len(task.train),
        valid_questions=len(task.valid),
        device=str(device.torch_device),
        precision=device.precision,
        step_s=step_s,
        scoring_s=scoring_s,
        settling_s=settling_s,
        rounds=len(work.rounds),
        twins=twins,
        duration_s=(settling_s if work.trained else 0.0) + runs_s / processes + twins_s,
        test_questions=len(task.test or ()),
        disk_bytes=work.disk_bytes(size, mask) + twins * (1 + EXPORTED * len(recipe.export.formats)) * size,
        free_bytes=shutil.disk_usage(_existing_folder(root)).free,
        peak_bytes=torch.cuda.max_memory_reserved(device.torch_device) if device.is_cuda else None,
        processes=processes,
    )


def estimate_study(recipe: Recipe, root: Path, absent: Path, *, only: str = "*") -> StudyPlan | None:
    """Return the StudyPlan of a study whose data are not on this machine; None if their published counts are unknown.

    `absent` is the first missing file. The time of a step is estimated from the FLOPs of its matrix products and the
    measured speed of one matrix product; real steps take longer.
    """
    recipe, run = resolve_recipe(recipe), RunDir(root)
    data, config = recipe.data, _published_config(recipe)
    if config is None or not isinstance(data, QuestionsData):
        return None
    train, valid = _count_published(data.train, data.max_train), _count_published(data.valid, data.max_valid)
    if train is None or valid is None:
        return None
    missing = missing_runs(recipe, choose_cells(recipe, only), run)
    work = find_missing_work(recipe, missing, run)
    device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
    with torch.device("meta"):
        model = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
    question_s = count_flops(model, tokens=data.tokens) / _product_speed(device)
    steps = recipe.train.epochs * -(-train // recipe.train.batch_size)
    step_s, scoring_s = 3 * question_s * recipe.train.batch_size, question_s * valid
    size, mask = 4 * model.whole, sum(tensor.numel() for tensor in model.prunable.values()) // 8
    return StudyPlan(
        dense_runs=sum(isinstance(study_run, int) for study_run in missing),
        cells=sum(isinstance(study_run, Cell) for study_run in missing),
        rounds=len(work.rounds),
        twins=0,
        steps_a_run=steps,
        train_questions=train,
        valid_questions=valid,
        device=str(device.torch_device),
        precision=device.precision,
        step_s=step_s,
        scoring_s=scoring_s,
        settling_s=0.0,
        duration_s=work.trainings * steps * step_s + work.scorings * scoring_s,
        disk_bytes=work.disk_bytes(size, mask),
        free_bytes=shutil.disk_usage(_existing_folder(root)).free,
        peak_bytes=None,
        absent=str(absent),
    )


def find_absent(recipe: Recipe) -> Path | None:
    """Return the first file of the recipe's questions or start model that does not exist; None if all exist."""
    start = Path(recipe.model.start)
    files = [path for paths in data_files(recipe.data).values() for path in paths]
    files += [start] if is_original(recipe.model.start) else []
    return next((path for path in files if not path.exists()), None)


def find_missing_work(recipe: Recipe, missing: Sequence[StudyRun], run: RunDir) -> MissingWork:
    """Return the MissingWork of the runs `missing`, and of the unfinished rounds that they go through."""
    trained = [
        study_run
        for study_run in missing
        if isinstance(study_run, Cell) or dense_source(recipe, study_run) == study_run
    ]
    return MissingWork(missing, missing_rounds(missing, run), recipe.train.epochs, trained)


def missing_rounds(missing: Sequence[StudyRun], run: RunDir) -> dict[Path, Cell]:
    """Return the unfinished rounds of iterative-retrain: folder of a round -> a cell that goes through this round.

    The first steps of compounds are among them, and so are the rounds of a first step.
    """
    rounds: dict[Path, Cell] = {}
    cells = [study_run for study_run in missing if isinstance(study_run, Cell)]
    for cell in cells:
        first = cell.method.first
        folder = run.first(cell.seed, first.method.id) if first else None
        if first and folder and folder not in rounds and not is_whole(folder / FIRST_FILE):
            rounds[folder] = Cell(first.method, first.sparsity, cell.seed)
    for cell in [*rounds.values(), *cells]:
        for sparsity in sparsities_of(cell.method, cell.sparsity)[:-1]:
            folder = run.round(cell.seed, cell.method.id, sparsity)
            if not (folder / MASK_FILE).exists():
                rounds[folder] = cell
    return rounds


def training_length(study_run: StudyRun, *, length: int | None = None) -> float:
    """Return the time of a run's last training, where 1 is the time of a dense run's training.

    `length` replaces the length of the method, as for a round.
    """
    if isinstance(study_run, int):
        return 1.0
    method = study_run.method
    skipped = (method.rewind_at or REWIND_AT) if method.rewind == "step" else 0.0
    return ((length or method.length) - skipped) * (TAUGHT if method.distill else 1.0)


def _time_scoring(model: Model, sample: AnswerTask, recipe: Recipe, device: DeviceSpec) -> float:
    """Return the seconds to score the model on the sample; the fit did so before, so nothing is compiled now."""
    device.wait()
    started = time.perf_counter()
    fitting.score(model.module, sample, answer=model.family.answer, settings=recipe.train, device=device)
    device.wait()
    return time.perf_counter() - started


def _product_speed(device: DeviceSpec) -> float:
    """Measure a matrix product on the device, in the precision of training; return its FLOP/s."""
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


def _count_published(paths: Sequence[Path], most: int | None) -> int | None:
    """Return the number of questions in published files, at most `most`; None if a file is not in the catalogue.

    The last two parts of its path identify a file.
    """
    names = ["/".join(path.parts[-2:]) for path in paths]
    if any(name not in QUESTIONS for name in names):
        return None
    count = sum(QUESTIONS[name] for name in names)
    return count if most is None else min(count, most)


def _published_config(recipe: Recipe) -> LxmertConfig | None:
    """Return the config of the published LXMERT with the published answers.

    Return None if the recipe starts from another model, or its kind of data has no published answers.
    """
    if Path(recipe.model.start).suffix != ".pth" or recipe.data.kind not in ANSWERS:
        return None
    config = LxmertConfig(num_qa_labels=ANSWERS[recipe.data.kind])
    lxmert.FAMILY.set_images(config, 2 if recipe.data.kind == "nlvr2" else 1)
    return config


def _first(split: Split, rows: int) -> Split:
    """Return the first `rows` questions of `split`."""
    return split.take(torch.arange(min(rows, len(split))).to(split.scene.device))


def _existing_folder(root: Path) -> Path:
    """Return `root` or the nearest folder above it that exists."""
    return next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
