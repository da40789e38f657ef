"""Run one cell: draw its ticket, score the ticket at each stage, and write the ticket and its record."""

from __future__ import annotations

from lxcompress.checksums import hash_files
from lxcompress.data.tasks import find_origin
from lxcompress.filenames import CHECKPOINT_FILE, MASK_FILE, START_FILE
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.models.flops import count_flops
from lxcompress.models.origin import set_origin
from lxcompress.pruning.compound import mask_in
from lxcompress.pruning.mask import Mask
from lxcompress.recipe import Cell
from lxcompress.records import Provenance, Result, Score, Sparsity
from lxcompress.rundir import sha256, write_record
from lxcompress.study.agreement import name_paths
from lxcompress.study.cell import CellRun, TicketCost
from lxcompress.study.choose import kept_dense_of
from lxcompress.study.context import (
    StudyContext,
    record_confidence,
    run_fields,
    score_test,
    score_weights,
    see_regions,
    timed,
)
from lxcompress.study.draw import DrawnTicket, draw
from lxcompress.study.first import describe_first, take_first_step
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.seed import SeedRun
from lxcompress.tickets import save_mask, save_ticket
from lxcompress.training.usage import UsageMeter


def run_cell(context: StudyContext, seed_run: SeedRun, cell: Cell, progress: StudyReporter) -> None:
    """Draw the ticket of one cell; score it after pruning, rewinding and retraining; save the ticket and its scores."""
    folder = context.run.ticket(cell)
    folder.mkdir(parents=True, exist_ok=True)
    cost = TicketCost()
    context = see_regions(context, cell.method.regions)
    run = CellRun(context, seed_run, cell, cost, progress, folder)
    with UsageMeter(context.device) as meter:
        run = take_first_step(run)
        ticket = draw(run)
        with timed() as scoring:
            pruned = score_weights(context, ticket.model, ticket.drawn.pruned)
            rewound = score_weights(context, ticket.model, ticket.drawn.rewound)
            ticket.model.load(ticket.drawn.trained)
            test = score_test(context, ticket.model)
        usage = meter.stop()
    retrained = cost.epochs[-1].valid
    kept_dense = kept_dense_of(context.recipe, run.seed_run.model, cell)
    context.run.check_claims()
    files = _save(run, ticket, retrained, kept_dense)
    record_confidence(context, ticket.model, folder)
    mask = mask_in(ticket.cut)
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
        regrown=mask.count_violations(ticket.drawn.trained) if mask else 0,
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


def _save(run: CellRun, ticket: DrawnTicket, accuracy: Score, kept_dense: list[str]) -> dict[str, str]:
    """Write the files of the ticket; return name -> SHA-256 for those files that no ticket.json lists.

    Two kinds of models are no tickets and get no ticket.json: a small dense model (a control), and a model whose
    removed weights grew back. For a ticket, return an empty dict.
    """
    folder, vocabulary = run.context.run.ticket(run.cell), run.context.task.vocabulary
    set_origin(ticket.model.config, find_origin(run.context.recipe.data))  # the cell may see fewer regions
    regrows, cut = "mask-applied-once" in run.context.recipe.faults, ticket.cut
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
    cell, first = run.cell, run.seed_run.first
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
        data=name_paths(run.context.recipe.data),  # with the regions that the cell's method sees
        accuracy=accuracy,
        first=describe_first(first.record) if first else None,
    )


def _kept_by_modality(whole: Model, ticket: DrawnTicket) -> dict[str, float]:
    """Return which fraction (0-1) of the prunable weights is kept: part of the model -> fraction."""
    kept: dict[str, int] = {}
    total: dict[str, int] = {}
    modality = whole.family.modality
    for name, weight in whole.prunable.items():
        total[modality(name)] = total.get(modality(name), 0) + weight.numel()
    mask = mask_in(ticket.cut)
    masks = mask.kept if mask else {}
    for name, weight in ticket.model.prunable.items():
        count = int(masks[name].sum()) if name in masks else weight.numel()
        kept[modality(name)] = kept.get(modality(name), 0) + count
    return {part: kept.get(part, 0) / count for part, count in total.items()}


def _mean_question(context: StudyContext) -> dict[str, int]:
    """Return the mean number of tokens of a validation question, and of regions (objects) of its image."""
    split = context.task.valid
    objects = split.regions.objects[split.scene].float().mean()
    return {"tokens": round(float(split.lengths.float().mean())), "objects": round(float(objects))}
