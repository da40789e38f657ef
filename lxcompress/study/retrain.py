"""Retrain one pruned model under its mask, on the data of a recipe, without a study.

The model keeps its weights and its answer head. The learning rates follow the recipe's schedule from the beginning
(learning-rate rewinding, Renda et al. 2020). The checkpoint of each epoch is in a hidden folder next to the ticket, so
that the same command resumes after a kill.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxcompress.data.tasks import find_origin, load_fitting_task
from lxcompress.errors import PruneError
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import Model
from lxcompress.models.origin import set_origin
from lxcompress.models.shape import describe_folder
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.progress import Progress, relabel
from lxcompress.pruning.compound import TicketCut, mask_in
from lxcompress.pruning.mask import Weights
from lxcompress.recipe import Recipe
from lxcompress.records import Retraining
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.cell import digest_cut
from lxcompress.study.context import (
    StudyContext,
    count_steps,
    fit,
    make_spec,
    run_fields,
    score,
    score_weights,
    timed,
)
from lxcompress.training.device import choose_device, move
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.writing import BusyError, exclusive


@dataclass(frozen=True)
class PrunedModel:
    """A model before and after pruning."""

    model: Model
    """the model before pruning"""
    pruned: Model
    """the model after pruning: a new, smaller model if the cut has a Surgery, else the same object as `model`"""
    cut: TicketCut
    weights: Weights
    fields: dict[str, Any]
    """the fields of its Provenance that say how it was pruned"""
    data: dict[str, Any] | None
    """if the model was a ticket before: the data settings of that ticket"""


def open_data(source: str, recipe: Recipe, folder: Path) -> StudyContext:
    """Return a StudyContext with the data of `recipe`, tokenized for the model at `source`; its root is `folder`.

    Raises LxError if the model cannot read or answer the data.
    """
    recipe = resolve_recipe(recipe)
    device = choose_device(recipe.device, recipe.train.precision)
    task = load_fitting_task(recipe.data, load_vocabulary(source), describe_folder(source))
    return StudyContext(recipe, RunDir(folder), task, device, describe_machine())


def work_path(out: Path) -> Path:
    """Return the hidden folder, next to the ticket at `out`, for the checkpoint of its training."""
    return out.absolute().with_name(f".{out.absolute().name}.retraining")


@contextmanager
def work_folder(out: Path) -> Iterator[None]:
    """Make `work_path(out)`, and remove it if the block ends without an error.

    After a kill or Ctrl-C the folder stays, so that the same command can resume. Raises PruneError if another process
    uses the folder.
    """
    folder = work_path(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(folder / "lock"):
            yield
            shutil.rmtree(folder)
    except BusyError:
        raise PruneError(f"{out}: another process retrains this ticket; wait for it, or give another --out") from None
    finally:
        with suppress(OSError):  # the folder has a checkpoint, is in use, or is removed already
            folder.rmdir()


def retrain(context: StudyContext, result: PrunedModel, *, seed: int, progress: Progress) -> tuple[Weights, Retraining]:
    """Train a pruned model under its cut; return the trained weights, and the record of the training.

    The checkpoint is in `context.run.root`. Raises LxError.
    """
    train = context.recipe.train
    rows = train.batch_size // train.accumulate
    task = move_to_device_if_it_fits(context.task, context.device, train.data_on_device, rows=rows)
    context = replace(context, task=task)
    with timed() as scoring:
        progress("scoring the model before pruning")
        move(result.model.module, context.device)
        dense = score(context, result.model)
        move(result.pruned.module, context.device)
        progress("scoring the pruned model")
        before = score_weights(context, result.pruned, result.weights)
    if origin := find_origin(context.recipe.data):
        set_origin(result.pruned.config, origin)
    what = f"retrain {seed} {_digest_weights(result.weights)} {digest_cut(result.cut)}"
    mask = mask_in(result.cut)
    masks = dict(mask.kept) if mask else None
    spec = make_spec(context, what, seed, context.run.root, masks=masks)
    epochs = fit(context, result.pruned, spec, relabel(progress, "retraining"))
    trained = {name: tensor.detach().cpu().clone() for name, tensor in result.pruned.weights.items()}
    record = Retraining(
        recipe=context.recipe.name,
        train=train.model_dump(mode="json"),
        dense=dense,
        pruned=before,
        retrained=epochs[-1].valid,
        **run_fields(context, epochs, steps=count_steps(context.recipe, task), scoring_s=scoring.seconds),
    )
    return trained, record


def _digest_weights(weights: Weights) -> str:
    """Return a SHA-256 of the weights; in a key, it stops a fit from resuming a checkpoint that began from others."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
