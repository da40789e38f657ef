"""A cell: its ticket is drawn as its method says, scored at each station, and kept with its numbers."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lxcompress.checksums import Origin, check_files, hash_files
from lxcompress.errors import LxError, RunError
from lxcompress.filenames import CHECKPOINT_FILE, MASK_FILE, MOVEMENT_FILE, ROUND_FILE, START_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import Model, load_weights, save_model, save_weights
from lxcompress.models.flops import count_flops
from lxcompress.models.kept import check_like
from lxcompress.pruning.controls import reinitialise, small_config
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.schedule import Drawn, draw_ticket
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.recipe import Cell, Train
from lxcompress.records import Epoch, Provenance, Result, RoundRecord, Score, Sparsity, dump_record, read_record
from lxcompress.rundir import sha256, write_record
from lxcompress.study.agreement import name_paths
from lxcompress.study.choose import Choice, Chooser, kept_dense_of, sparsities_of, take_cut
from lxcompress.study.seed import SeedRun, load_snapshot, parameters_of, rewind_step
from lxcompress.study.watch import Watch
from lxcompress.study.work import (
    FINE_TUNING_RATE,
    Fitting,
    Stopwatch,
    StudyContext,
    fit,
    how,
    score_weights,
    steps_of,
    timed,
)
from lxcompress.tickets import load_mask, save_mask, save_ticket
from lxcompress.training.device import move
from lxcompress.training.distil import Teacher
from lxcompress.training.gradual import Gradual
from lxcompress.training.movement import Movement
from lxcompress.training.usage import UsageMeter


@dataclass
class TicketCost:
    """What a ticket takes beside the dense run: ranking and choosing, and every training, its own and shared ones."""

    drawing: Stopwatch = field(default_factory=Stopwatch)
    steps: int = 0
    earlier_s: float = 0.0
    shared_s: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    """of the last training"""

    def trained(self, epochs: list[Epoch], steps: int) -> None:
        """Adds a training, which is the last so far."""
        self.earlier_s += sum(epoch.duration_s for epoch in self.epochs)
        self.epochs = epochs
        self.steps += steps


@dataclass(frozen=True)
class Finished:
    """A drawn ticket: the model whose weights it has, which is a smaller one if the cut is a Surgery."""

    model: Model
    drawn: Drawn
    sparsity: Sparsity
    is_ticket: bool = True


def run_cell(context: StudyContext, seed_run: SeedRun, cell: Cell, watch: Watch) -> None:
    """Draws one ticket, scores it at each station, and keeps both."""
    folder = context.run.ticket(cell)
    folder.mkdir(parents=True, exist_ok=True)
    cost = TicketCost()
    with UsageMeter(context.device) as meter:
        done = (_small_dense if cell.method.control == "small-dense" else _draw)(context, seed_run, cell, cost, watch)
        with timed() as scoring:
            pruned = score_weights(context, done.model, done.drawn.pruned)
            rewound = score_weights(context, done.model, done.drawn.rewound)
        usage = meter.stop()
    retrained = cost.epochs[-1].valid
    whole = kept_dense_of(context.recipe, seed_run.model, cell)
    files = _keep(context, cell, done, retrained, whole)
    cut = done.drawn.cut
    record = how(
        context, cost.epochs, steps=cost.steps, scoring_s=scoring.seconds + cost.drawing.seconds + cost.earlier_s
    )
    result = Result(
        cell=cell.id,
        method={"id": cell.method.id, **cell.method.model_dump(mode="json", exclude_defaults=True)},
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope=cell.method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        faults=list(context.recipe.faults),
        sparsity=done.sparsity,
        kept_dense=whole,
        pruned=pruned,
        rewound=rewound,
        retrained=retrained,
        regrown=cut.count_violations(done.drawn.trained) if isinstance(cut, Mask) else 0,
        kept_by_modality=_kept_by_modality(seed_run.model, done),
        parameters=done.model.live,
        flops=count_flops(done.model, **_usual_question(context)),
        drawing_s=cost.drawing.seconds,
        shared_s=cost.shared_s,
        usage=usage,
        files=files,
        **record,
    )
    write_record(context.run.result(cell), result)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    watch.end(cell.id, retrained.accuracy, result.duration_s)


def _draw(context: StudyContext, seed_run: SeedRun, cell: Cell, cost: TicketCost, watch: Watch) -> Finished:
    """Draws the cell's ticket by the schedule of its method."""
    method, model = cell.method, seed_run.model
    chooser = Chooser(context, seed_run, cell)
    if method.schedule == "gradual":
        return _close(model, chooser, _draw_gradually(context, seed_run, cell, chooser, cost, watch))
    smaller: dict[int, Model] = {}

    def choose(weights: Weights, sparsity: float, within: Choice | None) -> Choice:
        with timed(cost.drawing):
            if method.ticket:
                taken = take_cut(cell, model)
                return taken if isinstance(taken, Surgery) else chooser.shuffle(taken)
            if method.is_structured and method.schedule == "one-shot":
                return chooser.choose_surgery(weights)
            mask = chooser.choose(weights, sparsity, within if isinstance(within, Mask) else None)
            return chooser.to_surgery(mask) if method.is_structured and method.schedule == "iterative" else mask

    def train(rewound: Weights, cut: Choice, sparsity: float) -> Weights:
        if isinstance(cut, Surgery):
            fitted = smaller.setdefault(0, operate(model, cut))
            return _train(context, seed_run, cell, cost, watch, fitted, rewound, cut)
        if sparsity != cell.sparsity:
            return _train_round(context, seed_run, cell, chooser, cost, watch, rewound, cut, sparsity)
        return _train(context, seed_run, cell, cost, watch, model, rewound, cut)

    drawn = draw_ticket(
        seed_run.dense,
        sparsities=sparsities_of(method, cell.sparsity),
        choose=choose,
        rewind=lambda trained: rewind(context, seed_run, cell, trained),
        train=train,
    )
    if isinstance(drawn.cut, Surgery):
        return Finished(smaller[0], drawn, _count(model, drawn.cut))
    return _close(model, chooser, drawn)


def rewind(context: StudyContext, seed_run: SeedRun, cell: Cell, trained: Weights) -> Weights:
    """The weights that a cell's survivors are set back to before they are retrained."""
    method = cell.method
    if method.control == "reinitialised":
        return reinitialise(seed_run.model, cell.seed, last_bias=context.recipe.model.last_bias)
    if method.rewind == "start":
        return seed_run.start
    if method.rewind == "step":
        step = rewind_step(context, method.rewind_at)
        return {**seed_run.start, **load_snapshot(context.run, seed_run.model, seed_run.seed, step)}
    return trained


def _draw_gradually(
    context: StudyContext, seed_run: SeedRun, cell: Cell, chooser: Chooser, cost: TicketCost, watch: Watch
) -> Drawn:
    """Prunes while it trains (Zhu & Gupta 2017), from the weights that the method rewinds to."""
    method, model = cell.method, seed_run.model
    origin = rewind(context, seed_run, cell, seed_run.dense)
    model.load(origin)
    parameters = parameters_of(model)
    movement = Movement(parameters) if method.criterion_spec.needs_training else None

    def choose(weights: Weights, sparsity: float, within: Mask | None) -> Mask:
        chooser.movement = movement.result if movement else None
        with timed(cost.drawing):
            return chooser.pick(chooser.score(weights), sparsity, within)

    total, skip = steps_of(context.recipe, context.task), _skipped(context, cell)
    gradual = Gradual(parameters, choose=choose, sparsity=cell.sparsity, total=total, skip=skip)
    hooks = [*([movement] if movement else []), gradual]
    trained = _train(context, seed_run, cell, cost, watch, model, origin, None, hooks=hooks, masks=gradual.masks)
    cost.earlier_s -= cost.drawing.seconds  # the epochs' own time has it
    cut = gradual.mask
    return Drawn(cut, cut.apply(seed_run.dense), cut.apply(origin), trained)


def _close(model: Model, chooser: Chooser, drawn: Drawn) -> Finished:
    """What was drawn, cut out where it was masked by whole units."""
    assert isinstance(drawn.cut, Mask)
    if not chooser.groups:
        return Finished(model, drawn, drawn.cut.count(model.live, model.whole))
    surgery = chooser.to_surgery(drawn.cut)
    cut = Drawn(surgery, *(surgery.apply(each) for each in (drawn.pruned, drawn.rewound, drawn.trained)))
    return Finished(operate(model, surgery), cut, _count(model, surgery))


def _train(
    context: StudyContext,
    seed_run: SeedRun,
    cell: Cell,
    cost: TicketCost,
    watch: Watch,
    model: Model,
    weights: Weights,
    cut: Choice | None,
    *,
    hooks: list | None = None,
    masks: dict | None = None,
    folder: Path | None = None,
    what: str | None = None,
) -> Weights:
    """Fits `model` from `weights` with the cell's budget, rewinding and teacher; returns what came of them."""
    method = cell.method
    model.load(weights)
    is_held = isinstance(cut, Mask) and "mask-applied-once" not in context.recipe.faults
    made = what or f"{cell.id} {method.checkpoint_key(exclude_defaults=True)}"
    fitting = Fitting(
        f"{made} {digest_cut(cut)}",
        cell.seed,
        folder or context.run.ticket(cell),
        masks=masks or (dict(cut.kept) if is_held else None),
        hooks=hooks or (),
        skip=_skipped(context, cell),
        constant_rate=context.recipe.train.learning_rate * FINE_TUNING_RATE if method.rewind == "none" else None,
        teacher=_teacher(context, seed_run, cell),
        settings=_settings(context, cell),
    )
    epochs = fit(context, model, fitting, watch)
    cost.trained(epochs, method.length * steps_of(context.recipe, context.task) - fitting.skip)
    return {name: tensor.detach().cpu().clone() for name, tensor in model.weights.items()}


def digest_cut(cut: Choice | None) -> str:
    """Tells one cut from another: a checkpoint is of the cut that it was trained under, and of no other."""
    digest = hashlib.sha256()
    if isinstance(cut, Surgery):
        digest.update(dump_record(cut).encode())
    elif cut is not None:
        for name, kept in cut.kept.items():
            digest.update(name.encode() + np.packbits(kept.cpu().numpy()).tobytes())
    return digest.hexdigest()


def _train_round(
    context: StudyContext,
    seed_run: SeedRun,
    cell: Cell,
    chooser: Chooser,
    cost: TicketCost,
    watch: Watch,
    rewound: Weights,
    mask: Mask,
    sparsity: float,
) -> Weights:
    """A round before the last, kept for the other sparsities of its method, which go through the same."""
    folder = context.run.round(cell.seed, cell.method.id, sparsity)
    with context.run.alone_at(folder):
        if not _is_of(folder, mask, seed_run, watch):
            (folder / MASK_FILE).unlink(missing_ok=True)
            what = f"round {cell.method.id} {sparsity}"
            hook = Movement(parameters_of(seed_run.model)) if cell.method.criterion_spec.needs_training else None
            hooks = [hook] if hook else []
            model = seed_run.model
            trained = _train(
                context, seed_run, cell, cost, watch, model, rewound, mask, hooks=hooks, folder=folder, what=what
            )
            save_weights(folder / WEIGHTS_FILE, trained)
            if hook:
                save_weights(folder / MOVEMENT_FILE, hook.result)
            names = (WEIGHTS_FILE, MOVEMENT_FILE) if hook else (WEIGHTS_FILE,)
            sums = {name: sha256(folder / name) for name in names}
            write_record(folder / ROUND_FILE, RoundRecord(epochs=cost.epochs, files=sums))
            save_mask(folder / MASK_FILE, mask)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        else:
            kept = read_record(folder / ROUND_FILE, RoundRecord)
            cost.trained(kept.epochs, steps_of(context.recipe, context.task) - _skipped(context, cell))
            cost.shared_s += sum(epoch.duration_s for epoch in kept.epochs)
        if cell.method.criterion_spec.needs_training:
            chooser.movement = load_weights(folder / MOVEMENT_FILE)
        return load_weights(folder / WEIGHTS_FILE)


def _is_of(folder: Path, mask: Mask, seed_run: SeedRun, watch: Watch) -> bool:
    """Whether a finished round is kept whole in the folder, and is of just this mask. Says so of a damaged one."""
    if not (folder / MASK_FILE).exists():
        return False
    try:
        kept = load_mask(folder / MASK_FILE).kept
        record = read_record(folder / ROUND_FILE, RoundRecord)
        check_files(folder, Origin("the round", record.files, "it is done again", RunError, names_all=False))
        weights = load_weights(folder / WEIGHTS_FILE)
        check_like(folder / WEIGHTS_FILE, weights, seed_run.start, remedy="it is done again")
    except LxError as error:
        watch.remark(f"{str(error).rpartition(';')[0]}; the round is done again")
        return False
    return kept.keys() == mask.kept.keys() and all(torch.equal(kept[name], mask.kept[name]) for name in kept)


def _small_dense(context: StudyContext, seed_run: SeedRun, cell: Cell, cost: TicketCost, watch: Watch) -> Finished:
    """A dense model with as many prunable weights as tickets keep, trained from fresh ones (MiniVLM's question)."""
    whole = seed_run.model
    prunable = sum(weight.numel() for weight in whole.prunable.values())
    config = small_config(whole.config, round(prunable * (1 - cell.sparsity)))
    small = Model(move(whole.family.build(config), context.device), config, whole.family)
    start = reinitialise(small, cell.seed, last_bias=context.recipe.model.last_bias)
    trained = _train(context, seed_run, cell, cost, watch, small, start, None)
    kept = sum(weight.numel() for weight in small.prunable.values())
    sparsity = Sparsity(
        prunable=prunable,
        kept=kept,
        achieved=(prunable - kept) / prunable,
        of_live=(whole.live - small.live) / whole.live,
        of_all=(whole.live - small.live) / whole.whole,
        live=whole.live,
        all=whole.whole,
    )
    return Finished(small, Drawn(Mask({}), start, start, trained), sparsity, is_ticket=False)


def _keep(context: StudyContext, cell: Cell, done: Finished, accuracy: Score, kept_dense: list[str]) -> dict[str, str]:
    """Write the ticket; what is none (a dense control, or weights that grew back) has no ticket.json to say it is.

    Returns the SHA-256 of the files that no ticket.json names.
    """
    folder, vocabulary = context.run.ticket(cell), context.task.vocabulary
    regrows = "mask-applied-once" in context.recipe.faults
    if not done.is_ticket or regrows:
        save_model(folder, done.model, done.drawn.trained, vocabulary)
        if regrows:
            save_mask(folder / MASK_FILE, done.drawn.cut)
        return hash_files(folder)
    save_ticket(
        folder,
        done.model,
        cut=done.drawn.cut,
        weights=done.drawn.trained,
        vocabulary=vocabulary,
        provenance=_provenance(context, cell, done.sparsity, accuracy, kept_dense),
    )
    return {}


def _count(model: Model, surgery: Surgery) -> Sparsity:
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    return surgery.count(model.live, model.whole, shapes)


def _kept_by_modality(whole: Model, done: Finished) -> dict[str, float]:
    """The share of each part's prunable weights that stays."""
    kept: dict[str, int] = {}
    total: dict[str, int] = {}
    modality = whole.family.modality
    for name, weight in whole.prunable.items():
        total[modality(name)] = total.get(modality(name), 0) + weight.numel()
    masks = done.drawn.cut.kept if isinstance(done.drawn.cut, Mask) else {}
    for name, weight in done.model.prunable.items():
        count = int(masks[name].sum()) if name in masks else weight.numel()
        kept[modality(name)] = kept.get(modality(name), 0) + count
    return {part: kept.get(part, 0) / count for part, count in total.items()}


def _usual_question(context: StudyContext) -> dict[str, int]:
    """The mean length of a validation question, and the mean number of regions of its image."""
    split = context.task.valid
    objects = split.regions.objects[split.scene].float().mean()
    return {"tokens": round(float(split.lengths.float().mean())), "objects": round(float(objects))}


def _skipped(context: StudyContext, cell: Cell) -> int:
    """The steps that late rewinding leaves out: those before the weights that it goes back to."""
    return rewind_step(context, cell.method.rewind_at) if cell.method.rewind == "step" else 0


def _settings(context: StudyContext, cell: Cell) -> Train:
    """The recipe's training, which the control dense-longer does longer."""
    train = context.recipe.train
    return train.model_copy(update={"epochs": cell.method.length * train.epochs})


def _teacher(context: StudyContext, seed_run: SeedRun, cell: Cell) -> Teacher | None:
    """The dense model, where the method learns from it."""
    if cell.method.distill is None:
        return None
    module = move(copy.deepcopy(seed_run.model.module), context.device)
    module.load_state_dict(dict(seed_run.dense))
    family = seed_run.model.family
    return Teacher(module.eval(), family.answer, cell.method.distill, family.hidden)


def _provenance(
    context: StudyContext, cell: Cell, sparsity: Sparsity, accuracy: Score, kept_dense: list[str]
) -> Provenance:
    return Provenance(
        cell=cell.id,
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope=cell.method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=sparsity,
        kept_dense=kept_dense,
        start_file=f"../../seeds/{cell.seed}/{START_FILE}",
        start_sha256=sha256(context.run.start(cell.seed)),
        data=name_paths(context.recipe.data),
        accuracy=accuracy,
    )
