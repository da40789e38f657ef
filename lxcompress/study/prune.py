"""One model pruned, and no study: what is left of it is kept as a ticket, as it is or trained further."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.catalog.criteria import find_criterion
from lxcompress.errors import PruneError, TicketError
from lxcompress.filenames import SURGERY_FILE, TICKET_FILE
from lxcompress.models.checkpoints import Model, load_model, read_word_files
from lxcompress.progress import Progress, no_progress
from lxcompress.pruning.choose import check_selection, find_kept_dense, mask_from_scores
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.selection import MULTIPLE, Selection
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.pruning.units import check_structured, choose_units
from lxcompress.recipe import STRUCTURED, Recipe
from lxcompress.records import Provenance, Retraining, Score
from lxcompress.study.choose import fit_cut
from lxcompress.study.retrain import open_data, retrain, work_folder, work_path
from lxcompress.study.wish import check_wish
from lxcompress.study.work import StudyContext
from lxcompress.tickets import is_ticket, load_ticket, save_ticket
from lxcompress.training.calibration import collect_statistics
from lxcompress.writing import finished_folder, is_vacant, remove_stale


def prune_model(
    source: str,
    out: Path,
    *,
    criterion: str = "low-magnitude",
    sparsity: float | None = None,
    granularity: str = "weight",
    scope: str = "layer",
    seed: int = 0,
    multiple: int = MULTIPLE,
    keep_dense: Collection[str] = (),
    like: Path | None = None,
    calibration: Recipe | None = None,
    retraining: Recipe | None = None,
    progress: Progress = no_progress,
) -> Provenance:
    """Prunes the model at `source` (a transformers folder, a hub name or a ticket) and saves it as a ticket at `out`.

    A weight that is zero already is only a small weight; `multiple` is of the widths that structured granularities
    leave. With `like`, what that ticket keeps is kept here too. Criteria that look at data take it from the training
    questions of the recipe `calibration`, else of `retraining`. With `retraining` what is left is trained on the data
    of that recipe; the same call resumes it after a kill. Raises LxError.
    """
    is_wish = granularity != "weight" or scope != "layer" or bool(keep_dense) or multiple != MULTIPLE
    check_wish(
        criterion=criterion,
        sparsity=sparsity,
        granularity=granularity,
        scope=scope,
        like=like,
        has_calibration=calibration is not None,
        is_retrained=retraining is not None,
        is_wish=is_wish,
    )
    _check_vacant(out)
    if (Path(source) / SURGERY_FILE).is_file():
        raise PruneError(f"{source}: is a smaller model already; prune the model that it was cut from")
    if retraining is None:
        context = None if calibration is None else open_data(source, calibration, out)
        done = _prune(source, criterion, sparsity, granularity, scope, seed, multiple, keep_dense, like, context)
        return _keep(source, out, done, done.weights, data=done.data)
    progress("reading the data", 0, 0)
    trains = open_data(source, retraining, work_path(out))
    context = trains if calibration is None else open_data(source, calibration, work_path(out))
    progress("choosing what to keep", 0, 0)
    done = _prune(source, criterion, sparsity, granularity, scope, seed, multiple, keep_dense, like, context)
    with work_folder(out):
        weights, record = retrain(
            trains, done.model, done.pruned, cut=done.cut, weights=done.weights, seed=seed, progress=progress
        )
        data = trains.recipe.data.model_dump(mode="json")
        return _keep(source, out, done, weights, data=data, accuracy=record.retrained, retraining=record)


@dataclass(frozen=True)
class Pruned:
    """A pruned model; `fields` are those of its Provenance, `data` are of the ticket that it was before, if any."""

    model: Model
    """before"""
    pruned: Model
    """after: another one if the cut is a Surgery"""
    cut: Mask | Surgery
    weights: Weights
    fields: dict[str, Any]
    data: dict[str, Any] | None


def _prune(
    source: str,
    criterion: str,
    sparsity: float | None,
    granularity: str,
    scope: str,
    seed: int,
    multiple: int,
    keep_dense: Collection[str],
    like: Path | None,
    context: StudyContext | None,
) -> Pruned:
    """Prune the model at `source`; criteria that look at data take it from `context`. Raises LxError."""
    earlier = load_ticket(Path(source)) if is_ticket(Path(source)) else None
    model = earlier.model if earlier else load_model(source)
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    told: dict[str, Any] = {"criterion": criterion, "granularity": granularity, "scope": scope, "target": sparsity}
    cut: Mask | Surgery
    if like is not None:
        cut = fit_cut(like, model)
        told = load_ticket(like).provenance.model_dump(include={*told, "kept_dense"})
    elif granularity in STRUCTURED:
        told["kept_dense"] = [name for name in shapes if name in keep_dense]
        selection = Selection(sparsity, granularity, scope, keep_dense=tuple(keep_dense), multiple=multiple)
        groups = check_structured(model, selection)
        cut = choose_units(_score(model, criterion, seed, context), groups, selection, prunable=shapes)
    else:
        selection = Selection(sparsity, granularity, scope, keep_dense=tuple(keep_dense))
        check_selection(shapes, selection)
        told["kept_dense"] = find_kept_dense(shapes, selection)
        cut = mask_from_scores(_score(model, criterion, seed, context), selection)
    if isinstance(cut, Surgery):
        counted, pruned = cut.count(model.live, model.whole, shapes), operate(model, cut)
        weights = {name: tensor.clone() for name, tensor in pruned.weights.items()}
    else:
        counted, pruned, weights = cut.count(model.live, model.whole), model, cut.apply(model.weights)
    fields = {**told, "seed": seed, "sparsity": counted}
    return Pruned(model, pruned, cut, weights, fields, earlier.provenance.data if earlier else None)


def _keep(
    source: str,
    out: Path,
    done: Pruned,
    weights: Weights,
    *,
    data: dict[str, Any] | None,
    accuracy: Score | None = None,
    retraining: Retraining | None = None,
) -> Provenance:
    """Write the ticket of a pruned model with its final `weights`, whole or not at all."""
    provenance = Provenance(
        cell=None,
        **done.fields,
        start_file=None,
        start_sha256=None,
        data=data,
        accuracy=accuracy,
        retraining=retraining,
    )
    words = read_word_files(source)
    with finished_folder(out, TICKET_FILE, before=lambda: _check_vacant(out)) as made:
        save_ticket(made, done.pruned, cut=done.cut, weights=weights, vocabulary=words, provenance=provenance)
    return provenance


def _check_vacant(out: Path) -> None:
    """Raises TicketError for a folder that holds something, once what killed processes left beside it is gone."""
    if out.parent.is_dir():
        remove_stale(out.parent)
    if out.exists() and (not out.is_dir() or not is_vacant(out)):
        raise TicketError(f"{out}: exists and is not an empty folder; give another --out, or remove it")


def _score(model: Model, criterion: str, seed: int, context: StudyContext | None) -> dict[str, Any]:
    """The criterion's scores of the model's prunable weights."""
    needed = find_criterion(criterion).needs
    statistics = CalibrationStatistics()
    if needed is not None and context is not None:
        found = collect_statistics(
            model,
            {name: tensor.clone() for name, tensor in model.weights.items()},
            context.task,
            kind=needed,
            settings=context.recipe.train,
            device=context.device,
            seed=seed,
            questions=context.recipe.prune.calibration.questions,
            batch_size=context.recipe.prune.calibration.batch_size,
        )
        model.module.cpu()
        statistics = CalibrationStatistics(**{needed: found})
    return score_weights(model.prunable, criterion=criterion, seed=seed, statistics=statistics)
