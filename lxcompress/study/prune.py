"""Prune one model without a study; the pruned model is saved as a ticket, with or without retraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxcompress.catalog.criteria import find_criterion
from lxcompress.errors import PruneError, TicketError
from lxcompress.filenames import SURGERY_FILE, TICKET_FILE
from lxcompress.models.checkpoints import Model, load_model
from lxcompress.models.vocabulary import read_word_files
from lxcompress.progress import Progress, no_progress
from lxcompress.pruning.choose import check_selection, find_kept_dense, mask_from_scores
from lxcompress.pruning.compound import Compound, TicketCut, count_compound, within_smaller
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.pruning.units import check_structured, choose_units
from lxcompress.recipe import STRUCTURED
from lxcompress.records import FirstCut, Provenance, Retraining
from lxcompress.rundir import RunDir
from lxcompress.study.choose import load_fitting_cut
from lxcompress.study.context import StudyContext, record_confidence
from lxcompress.study.options import PruneOptions
from lxcompress.study.retrain import PrunedModel, open_data, retrain, work_folder, work_path
from lxcompress.tickets import is_ticket, load_ticket, save_ticket
from lxcompress.training.calibration import CalibrationSpec, collect_statistics
from lxcompress.writing import finished_folder, is_vacant, remove_stale


def prune_model(source: str, out: Path, options: PruneOptions, *, progress: Progress = no_progress) -> Provenance:
    """Prune the model at `source` (a transformers folder, a hub name or a ticket), and save it as a ticket at `out`.

    Weights that are already zero are ranked like any small weight. If the retraining is interrupted, the same call
    resumes it. Raises LxError.
    """
    options.check()
    _check_vacant(out)
    if (Path(source) / SURGERY_FILE).is_file():
        raise PruneError(f"{source}: is a smaller model already; prune the model that it was made from")
    calibration, retraining = options.calibration, options.retraining
    if retraining is None:
        context = None if calibration is None else open_data(source, calibration, out)
        result = _prune(source, options, context)
        return _save(source, out, result, result.weights)
    progress("reading the data")
    training = open_data(source, retraining, work_path(out))
    context = training if calibration is None else open_data(source, calibration, work_path(out))
    progress("choosing what to keep")
    if options.first is None:
        result = _prune(source, options, context)
        with work_folder(out):
            weights, record = retrain(training, result, seed=options.seed, progress=progress)
            return _save(source, out, result, weights, training=(training, record))
    with work_folder(out):
        apart = replace(training, run=RunDir(work_path(out) / "first"))
        earlier: list[Retraining] = []

        def train(smaller: PrunedModel) -> Weights:
            weights, record = retrain(apart, smaller, seed=options.seed, progress=progress)
            earlier.append(record)
            return weights

        result = _prune(source, options, context, train)
        weights, record = retrain(training, result, seed=options.seed, progress=progress)
        both = {name: getattr(record, name) + getattr(earlier[0], name) for name in ("steps", "duration_s")}
        return _save(source, out, result, weights, training=(training, record.model_copy(update=both)))


def _prune(
    source: str,
    options: PruneOptions,
    context: StudyContext | None,
    train: Callable[[PrunedModel], Weights] | None = None,
) -> PrunedModel:
    """Prune the model at `source`; a criterion that needs questions takes them from `context`. Raises LxError.

    If there is a first step, `train` trains its smaller model, whose weights are masked next.
    """
    earlier = load_ticket(Path(source)) if is_ticket(Path(source)) else None
    model = earlier.model if earlier else load_model(source)
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    fields: dict[str, Any] = {
        "criterion": options.criterion,
        "granularity": options.granularity,
        "scope": options.scope,
        "target": options.sparsity,
    }
    kept_data = earlier.provenance.data if earlier else None
    if options.first:
        return _prune_twice(model, options, context, train, PrunedModel(model, model, Mask({}), {}, fields, kept_data))
    cut: TicketCut
    if options.like is not None:
        cut = load_fitting_cut(options.like, model)
        fields = load_ticket(options.like).provenance.model_dump(include={*fields, "kept_dense"})
    elif options.granularity in STRUCTURED:
        fields["kept_dense"] = [name for name in shapes if name in options.keep_dense]
        groups = check_structured(model, options.selection)
        cut = choose_units(_score(model, options, context), groups, options.selection, prunable=shapes)
    else:
        check_selection(shapes, options.selection)
        fields["kept_dense"] = find_kept_dense(shapes, options.selection)
        cut = mask_from_scores(_score(model, options, context), options.selection)
    if isinstance(cut, Surgery):
        sparsity, pruned = cut.count(model.live, model.whole, shapes), operate(model, cut)
        weights = {name: tensor.clone() for name, tensor in pruned.weights.items()}
    else:
        sparsity, pruned, weights = cut.count(model.live, model.whole), model, cut.apply(model.weights)
    fields |= {"seed": options.seed, "sparsity": sparsity}
    return PrunedModel(model, pruned, cut, weights, fields, kept_data)


def _prune_twice(
    model: Model,
    options: PruneOptions,
    context: StudyContext | None,
    train: Callable[[PrunedModel], Weights] | None,
    start: PrunedModel,
) -> PrunedModel:
    """Return the model after its first step, which makes it smaller, and a mask of the smaller model.

    `start` is the model before both steps, with the fields of its record. Raises PruneError.
    """
    first = options.first
    assert first is not None
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    selection = replace(options.selection, granularity=first.granularity, scope=first.scope, sparsity=first.sparsity)
    selection = replace(selection, least_kept=0.0)
    groups = check_structured(model, selection)
    surgery = choose_units(_score(model, options, context), groups, selection, prunable=shapes)
    removed, smaller = surgery.count(model.live, model.whole, shapes), operate(model, surgery)
    weights = {name: tensor.clone() for name, tensor in smaller.weights.items()}
    left = {name: weight.shape for name, weight in smaller.prunable.items()}
    second = within_smaller(options.selection, left, removed.prunable)
    check_selection(left, second)
    if train:
        weights = dict(train(replace(start, pruned=smaller, cut=surgery, weights=weights)))
        smaller.module.cpu()
        smaller.load(weights)
    mask = mask_from_scores(_score(smaller, options, context), second)
    made = FirstCut(
        criterion=first.criterion,
        granularity=first.granularity,
        scope=first.scope,
        target=first.sparsity,
        sparsity=removed,
        kept_dense=[name for name in shapes if name in options.keep_dense],
    )
    fields = {
        **start.fields,
        "first": made,
        "kept_dense": find_kept_dense(left, second),
        "seed": options.seed,
        "sparsity": count_compound(removed, mask),
    }
    return PrunedModel(model, smaller, Compound(surgery, mask), mask.apply(weights), fields, start.data)


def _score(model: Model, options: PruneOptions, context: StudyContext | None) -> dict[str, Any]:
    """Return the criterion's score of each prunable weight: name of a matrix -> scores of its shape."""
    kind = find_criterion(options.criterion).needs
    statistics = CalibrationStatistics()
    if kind is not None and context is not None:
        weights = {name: tensor.clone() for name, tensor in model.weights.items()}
        calibration = context.recipe.prune.calibration
        spec = CalibrationSpec(
            context.task,
            context.recipe.train,
            context.device,
            options.seed,
            questions=calibration.questions,
            batch_size=calibration.batch_size,
        )
        statistics = CalibrationStatistics(**{kind: collect_statistics(model, weights, kind, spec)})
        model.module.cpu()
    return score_weights(model.prunable, criterion=options.criterion, seed=options.seed, statistics=statistics)


def _save(
    source: str,
    out: Path,
    result: PrunedModel,
    weights: Weights,
    *,
    training: tuple[StudyContext, Retraining] | None = None,
) -> Provenance:
    """Write the ticket of a pruned model with its final `weights`, atomically; return its Provenance.

    If the model was retrained, `training` is its context and the record of the retraining.
    """
    context, record = training or (None, None)
    provenance = Provenance(
        cell=None,
        **result.fields,
        start_file=None,
        start_sha256=None,
        data=context.recipe.data.model_dump(mode="json") if context else result.data,
        accuracy=record.retrained if record else None,
        retraining=record,
    )
    vocabulary = read_word_files(source)
    with finished_folder(out, TICKET_FILE, before=lambda: _check_vacant(out)) as folder:
        save_ticket(
            folder, result.pruned, cut=result.cut, weights=weights, vocabulary=vocabulary, provenance=provenance
        )
        if context:
            record_confidence(context, result.pruned, folder)
    return provenance


def _check_vacant(out: Path) -> None:
    """Remove what killed processes left next to `out`; raise TicketError if `out` is not an empty folder or absent."""
    if out.parent.is_dir():
        remove_stale(out.parent)
    if out.exists() and (not out.is_dir() or not is_vacant(out)):
        raise TicketError(f"{out}: exists and is not an empty folder; give another --out, or remove it")
