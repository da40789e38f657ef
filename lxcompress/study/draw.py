"""Draw a ticket as the method of its cell says: choose what is kept, rewind and retrain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lxcompress.models.checkpoints import Model
from lxcompress.pruning.compound import Compound, TicketCut, count_compound
from lxcompress.pruning.controls import reinitialise, small_config
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.schedule import DrawResult, draw_ticket
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.records import Sparsity
from lxcompress.study.cell import CellRun, make_cell_spec, rewind, skipped_steps, train
from lxcompress.study.choose import Choice, CutChooser, load_cut
from lxcompress.study.context import count_steps, timed
from lxcompress.study.rounds import train_round
from lxcompress.study.seed import SeedRun, parameters_of
from lxcompress.training.device import move
from lxcompress.training.gradual import GradualPruning, PruningSchedule
from lxcompress.training.movement import Movement
from lxcompress.training.step import Hook


@dataclass(frozen=True)
class DrawnTicket:
    """A drawn ticket, its sparsity, and the model that its weights fit: a smaller model if there was a Surgery.

    `is_ticket` is False for the control that trains a small dense model.
    """

    model: Model
    drawn: DrawResult
    sparsity: Sparsity
    is_ticket: bool = True

    @property
    def cut(self) -> TicketCut:
        """Return what the ticket keeps."""
        cut = self.drawn.cut
        assert isinstance(cut, TicketCut)
        return cut


def draw(run: CellRun) -> DrawnTicket:
    """Draw the cell's ticket by the schedule of its method, from the model of `run.seed_run`.

    For the second step of a compound this is the smaller model of the first step. Raises PruneError.
    """
    method, chooser = run.cell.method, CutChooser(run.context, run.seed_run, run.cell)
    if method.control == "small-dense":
        return _train_small_dense(run)
    if method.schedule == "gradual":
        return _as_ticket(run.seed_run, chooser, _draw_gradually(run, chooser))
    smaller: dict[int, Model] = {}
    drawn = _draw_rounds(run, chooser, _sparsities(run, chooser), smaller)
    if isinstance(drawn.cut, Surgery):
        return DrawnTicket(smaller[0], drawn, _count(run.seed_run.model, drawn.cut))
    return _as_ticket(run.seed_run, chooser, drawn)


def train_rounds(run: CellRun, count: int) -> None:
    """Train and save the first `count` rounds of iterative-retrain that the cell goes through, all before its last."""
    chooser = CutChooser(run.context, run.seed_run, run.cell)
    _draw_rounds(run, chooser, _sparsities(run, chooser)[:count], {})


def _sparsities(run: CellRun, chooser: CutChooser) -> list[float]:
    """Return the sparsities at which the cell's ticket is retrained, one after another."""
    is_in_rounds = run.cell.method.schedule == "iterative-retrain"
    return chooser.rounds_to(run.cell.sparsity) if is_in_rounds else [run.cell.sparsity]


def _draw_rounds(
    run: CellRun, chooser: CutChooser, sparsities: Sequence[float], smaller: dict[int, Model]
) -> DrawResult:
    """Prune, rewind and retrain the cell's ticket at `sparsities`; a smaller model is kept as `smaller[0]`."""
    method, model = run.cell.method, run.seed_run.model

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

    return draw_ticket(
        run.seed_run.dense,
        sparsities=sparsities,
        choose=choose,
        rewind=lambda trained: rewind(run, trained),
        train=retrain,
    )


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

    first = run.seed_run.first
    schedule = PruningSchedule(
        run.cell.method.length * count_steps(run.context.recipe, run.context.task),
        skip=skipped_steps(run),
        initial=first.record.sparsity.achieved if first else 0.0,
    )
    gradual = GradualPruning(parameters, choose=choose, sparsity=run.cell.sparsity, schedule=schedule)
    hooks: list[Hook] = [movement, gradual] if movement else [gradual]
    trained = train(run, model, origin, replace(make_cell_spec(run, None), hooks=hooks, masks=gradual.masks))
    run.cost.earlier_s -= run.cost.drawing.seconds  # the time of the epochs includes the drawing
    cut = gradual.mask
    return DrawResult(cut, cut.apply(run.seed_run.dense), cut.apply(origin), trained)


def _as_ticket(seed_run: SeedRun, chooser: CutChooser, drawn: DrawResult) -> DrawnTicket:
    """Return the DrawnTicket of a result whose cut is a Mask.

    A mask of whole units is turned into a Surgery. With the surgery of a first step, the mask makes a Compound.
    """
    assert isinstance(drawn.cut, Mask)
    model, first = seed_run.model, seed_run.first
    if first:
        compound = replace(drawn, cut=Compound(first.surgery, drawn.cut))
        return DrawnTicket(model, compound, count_compound(first.record.sparsity, drawn.cut))
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


def _count(model: Model, surgery: Surgery) -> Sparsity:
    """Return the Sparsity of `model` after `surgery`."""
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    return surgery.count(model.live, model.whole, shapes)
