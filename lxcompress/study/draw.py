"""Draw the ticket of a cell as its method says, score the ticket at each stage, and write its record."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lxcompress.checksums import hash_files
from lxcompress.filenames import CHECKPOINT_FILE, MASK_FILE, START_FILE
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.models.flops import count_flops
from lxcompress.pruning.controls import reinitialise, small_config
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.schedule import DrawResult, draw_ticket
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.recipe import Cell
from lxcompress.records import Provenance, Result, Score, Sparsity
from lxcompress.rundir import sha256, write_record
from lxcompress.study.agreement import name_paths
from lxcompress.study.cell import CellRun, TicketCost, make_cell_spec, rewind, skipped_steps, train
from lxcompress.study.choose import Choice, CutChooser, kept_dense_of, load_cut, sparsities_of
from lxcompress.study.context import StudyContext, count_steps, run_fields, score_test, score_weights, timed
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.rounds import train_round
from lxcompress.study.seed import SeedRun, parameters_of
from lxcompress.tickets import save_mask, save_ticket
from lxcompress.training.device import move
from lxcompress.training.gradual import GradualPruning, PruningSchedule
from lxcompress.training.movement import Movement
from lxcompress.training.step import Hook
from lxcompress.training.usage import UsageMeter


@dataclass(frozen=True)
class DrawnTicket:
    """A drawn ticket, its sparsity, and the model that its weights fit: a smaller model if the cut is a Surgery.

    `is_ticket` is False for the control that trains a small dense model.
    """

    model: Model
    drawn: DrawResult
    sparsity: Sparsity
    is_ticket: bool = True


def run_cell(context: StudyContext, seed_run: SeedRun, cell: Cell, progress: StudyReporter) -> None:
    """Draw the ticket of one cell; score it after pruning, rewinding and retraining; save the ticket and its scores."""
    folder = context.run.ticket(cell)
    folder.mkdir(parents=True, exist_ok=True)
    cost = TicketCost()
    run = CellRun(context, seed_run, cell, cost, progress)
    with UsageMeter(context.device) as meter:
        ticket = _train_small_dense(run) if cell.method.control == "small-dense" else _draw(run)
        with timed() as scoring:
            pruned = score_weights(context, ticket.model, ticket.drawn.pruned)
            rewound = score_weights(context, ticket.model, ticket.drawn.rewound)
            ticket.model.load(ticket.drawn.trained)
            test = score_test(context, ticket.model)
        usage = meter.stop()
    retrained = cost.epochs[-1].valid
    kept_dense = kept_dense_of(context.recipe, seed_run.model, cell)
    files = _save(run, ticket, retrained, kept_dense)
    cut = ticket.drawn.cut
    scoring_s = scoring.seconds + cost.drawing.seconds + cost.earlier_s
    result = Result(
        cell=cell.id,
        method={"id": cell.method.id, **cell.method.model_dump(mode="json", exclude_defaults=True)},
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope=cell.method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        faults=list(context.recipe.faults),
        sparsity=ticket.sparsity,
        kept_dense=kept_dense,
        pruned=pruned,
        rewound=rewound,
        retrained=retrained,
        test=test,
        regrown=cut.count_violations(ticket.drawn.trained) if isinstance(cut, Mask) else 0,
        kept_by_modality=_kept_by_modality(seed_run.model, ticket),
        parameters=ticket.model.live,
        flops=count_flops(ticket.model, **_mean_question(context)),
        drawing_s=cost.drawing.seconds,
        shared_s=cost.shared_s,
        usage=usage,
        files=files,
        **run_fields(context, cost.epochs, steps=cost.steps, scoring_s=scoring_s),
    )
    write_record(context.run.result(cell), result)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    progress.end(cell.id, retrained.accuracy, result.duration_s)


def _draw(run: CellRun) -> DrawnTicket:
    """Draw the cell's ticket by the schedule of its method."""
    method, model = run.cell.method, run.seed_run.model
    chooser = CutChooser(run.context, run.seed_run, run.cell)
    if method.schedule == "gradual":
        return _as_ticket(model, chooser, _draw_gradually(run, chooser))
    smaller: dict[int, Model] = {}

    def choose(weights: Weights, sparsity: float, within: Choice | None) -> Choice:
        with timed(run.cost.drawing):
            if method.ticket:
                cut = load_cut(run.cell, model)
                return cut if isinstance(cut, Surgery) else chooser.shuffle(cut)
            if method.is_structured and method.schedule == "one-shot":
                return chooser.choose_surgery(weights)
            mask = chooser.choose(weights, sparsity, within if isinstance(within, Mask) else None)
            return chooser.to_surgery(mask) if method.is_structured and method.schedule == "iterative" else mask

    def retrain(rewound: Weights, cut: Choice, sparsity: float) -> Weights:
        if isinstance(cut, Surgery):
            fitted = smaller.setdefault(0, operate(model, cut))
            return train(run, fitted, rewound, make_cell_spec(run, cut))
        if sparsity != run.cell.sparsity:
            return train_round(run, chooser, rewound, cut, sparsity)
        return train(run, model, rewound, make_cell_spec(run, cut))

    drawn = draw_ticket(
        run.seed_run.dense,
        sparsities=sparsities_of(method, run.cell.sparsity),
        choose=choose,
        rewind=lambda trained: rewind(run, trained),
        train=retrain,
    )
    if isinstance(drawn.cut, Surgery):
        return DrawnTicket(smaller[0], drawn, _count(model, drawn.cut))
    return _as_ticket(model, chooser, drawn)


def _draw_gradually(run: CellRun, chooser: CutChooser) -> DrawResult:
    """Prune during the training (Zhu & Gupta 2017), which begins from the weights that the method rewinds to."""
    model = run.seed_run.model
    origin = rewind(run, run.seed_run.dense)
    model.load(origin)
    parameters = parameters_of(model)
    movement = Movement(parameters) if run.cell.method.criterion_spec.needs_training else None

    def choose(weights: Weights, sparsity: float, within: Mask | None) -> Mask:
        chooser.movement = movement.result if movement else None
        with timed(run.cost.drawing):
            return chooser.choose_by_scores(chooser.score(weights), sparsity, within)

    schedule = PruningSchedule(count_steps(run.context.recipe, run.context.task), skip=skipped_steps(run))
    gradual = GradualPruning(parameters, choose=choose, sparsity=run.cell.sparsity, schedule=schedule)
    hooks: list[Hook] = [movement, gradual] if movement else [gradual]
    trained = train(run, model, origin, replace(make_cell_spec(run, None), hooks=hooks, masks=gradual.masks))
    run.cost.earlier_s -= run.cost.drawing.seconds  # the time of the epochs includes the drawing
    cut = gradual.mask
    return DrawResult(cut, cut.apply(run.seed_run.dense), cut.apply(origin), trained)


def _as_ticket(model: Model, chooser: CutChooser, drawn: DrawResult) -> DrawnTicket:
    """Return the DrawnTicket of a result whose cut is a Mask; a mask of whole units is turned into a Surgery."""
    assert isinstance(drawn.cut, Mask)
    if not chooser.groups:
        return DrawnTicket(model, drawn, drawn.cut.count(model.live, model.whole))
    surgery = chooser.to_surgery(drawn.cut)
    cut = DrawResult(surgery, *(surgery.apply(weights) for weights in (drawn.pruned, drawn.rewound, drawn.trained)))
    return DrawnTicket(operate(model, surgery), cut, _count(model, surgery))


def _train_small_dense(run: CellRun) -> DrawnTicket:
    """Train a small dense model from fresh weights: a control, as in MiniVLM.

    It has about as many prunable weights as a ticket of the cell's sparsity keeps.
    """
    whole = run.seed_run.model
    prunable = sum(weight.numel() for weight in whole.prunable.values())
    config = small_config(whole.config, round(prunable * (1 - run.cell.sparsity)))
    small = Model(move(whole.family.build(config), run.context.device), config, whole.family)
    start = reinitialise(small, run.cell.seed, last_bias=run.context.recipe.model.last_bias)
    trained = train(run, small, start, make_cell_spec(run, None))
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
    return DrawnTicket(small, DrawResult(Mask({}), start, start, trained), sparsity, is_ticket=False)


def _save(run: CellRun, ticket: DrawnTicket, accuracy: Score, kept_dense: list[str]) -> dict[str, str]:
    """Write the files of the ticket; return name -> SHA-256 for those files that no ticket.json lists.

    Two kinds of models are no tickets and get no ticket.json: a small dense model (a control), and a model whose
    removed weights grew back. For a ticket, return an empty dict.
    """
    folder, vocabulary = run.context.run.ticket(run.cell), run.context.task.vocabulary
    regrows, cut = "mask-applied-once" in run.context.recipe.faults, ticket.drawn.cut
    assert isinstance(cut, Mask | Surgery)
    if not ticket.is_ticket or regrows:
        save_model(folder, ticket.model, ticket.drawn.trained, vocabulary)
        if regrows:
            assert isinstance(cut, Mask), "a protocol with faults draws masks only"
            save_mask(folder / MASK_FILE, cut)
        return hash_files(folder)
    save_ticket(
        folder,
        ticket.model,
        cut=cut,
        weights=ticket.drawn.trained,
        vocabulary=vocabulary,
        provenance=_make_provenance(run, ticket.sparsity, accuracy, kept_dense),
    )
    return {}


def _make_provenance(run: CellRun, sparsity: Sparsity, accuracy: Score, kept_dense: list[str]) -> Provenance:
    """Return the Provenance of the cell's ticket."""
    cell = run.cell
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
        start_sha256=sha256(run.context.run.start(cell.seed)),
        data=name_paths(run.context.recipe.data),
        accuracy=accuracy,
    )


def _count(model: Model, surgery: Surgery) -> Sparsity:
    """Return the Sparsity of `model` after `surgery`."""
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    return surgery.count(model.live, model.whole, shapes)


def _kept_by_modality(whole: Model, ticket: DrawnTicket) -> dict[str, float]:
    """Return which fraction (0-1) of the prunable weights is kept: part of the model -> fraction."""
    kept: dict[str, int] = {}
    total: dict[str, int] = {}
    modality = whole.family.modality
    for name, weight in whole.prunable.items():
        total[modality(name)] = total.get(modality(name), 0) + weight.numel()
    masks = ticket.drawn.cut.kept if isinstance(ticket.drawn.cut, Mask) else {}
    for name, weight in ticket.model.prunable.items():
        count = int(masks[name].sum()) if name in masks else weight.numel()
        kept[modality(name)] = kept.get(modality(name), 0) + count
    return {part: kept.get(part, 0) / count for part, count in total.items()}


def _mean_question(context: StudyContext) -> dict[str, int]:
    """Return the mean number of tokens of a validation question, and of regions (objects) of its image."""
    split = context.task.valid
    objects = split.regions.objects[split.scene].float().mean()
    return {"tokens": round(float(split.lengths.float().mean())), "objects": round(float(objects))}
