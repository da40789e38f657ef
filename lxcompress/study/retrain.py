"""One pruned model, trained further under its mask on a recipe's data: its own answer head, no study and no rewinding.

The rates are those of the recipe's schedule from its beginning (learning-rate rewinding, Renda et al. 2020). The
checkpoint of each epoch lies in a hidden folder beside the ticket, so that the same command resumes after a kill.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import PruneError
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import Model, load_vocabulary
from lxcompress.models.shape import describe_folder
from lxcompress.progress import Progress
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.surgery import Surgery
from lxcompress.recipe import Recipe
from lxcompress.records import Retraining
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.draw import digest_cut
from lxcompress.study.work import Fitting, StudyContext, fit, how, score, score_weights, steps_of, timed
from lxcompress.training.device import choose_device, move
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.writing import BusyError, exclusive


@dataclass(frozen=True)
class RetrainWatch:
    """The progress of one training, told as that of a command."""

    progress: Progress

    def prepare(self, what: str) -> None:
        """Something is made ready."""
        self.progress(what)

    def begin(self, what: str, done: int, total: int) -> None:
        """The training begins."""
        self.progress(what)

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """So many optimizer steps are done."""
        self.progress("retraining", done, total, value=value)

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """The training is finished."""


def open_data(source: str, recipe: Recipe, folder: Path) -> StudyContext:
    """Return what the model at `source` is trained with: the recipe's data, which it reads and answers.

    Raises LxError.
    """
    recipe = resolve_recipe(recipe)
    device = choose_device(recipe.device, recipe.train.precision)
    task = load_fitting_task(recipe.data, load_vocabulary(source), describe_folder(source))
    return StudyContext(recipe, RunDir(folder), task, device, describe_machine())


def work_path(out: Path) -> Path:
    """Return the hidden folder beside the ticket at `out` that holds the checkpoint of its training."""
    return out.absolute().with_name(f".{out.absolute().name}.retraining")


@contextmanager
def work_folder(out: Path) -> Iterator[None]:
    """Make `work_path(out)` and remove it when the block ends well.

    After a kill or Ctrl-C it stays, for the same command to resume. Raises PruneError if another process works there.
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
        with suppress(OSError):  # it has a checkpoint, is in use, or is gone
            folder.rmdir()


def retrain(
    context: StudyContext,
    model: Model,
    pruned: Model,
    *,
    cut: Mask | Surgery,
    weights: Weights,
    seed: int,
    progress: Progress,
) -> tuple[Weights, Retraining]:
    """Return `weights` after training under `cut`, and the record of it; `model` is the one before it was pruned.

    `context.run.root` holds the checkpoint. Raises LxError.
    """
    rows = context.recipe.train.batch_size // context.recipe.train.accumulate
    task = move_to_device_if_it_fits(context.task, context.device, context.recipe.train.data_on_device, rows=rows)
    context = StudyContext(context.recipe, context.run, task, context.device, context.machine)
    with timed() as scoring:
        progress("scoring the model before pruning", 0, 0)
        move(model.module, context.device)
        dense = score(context, model)
        move(pruned.module, context.device)
        progress("scoring the pruned model", 0, 0)
        before = score_weights(context, pruned, weights)
    what = f"retrain {seed} {_digest_weights(weights)} {digest_cut(cut)}"
    masks = dict(cut.kept) if isinstance(cut, Mask) else None
    epochs = fit(context, pruned, Fitting(what, seed, context.run.root, masks=masks), RetrainWatch(progress))
    trained = {name: tensor.detach().cpu().clone() for name, tensor in pruned.weights.items()}
    record = Retraining(
        recipe=context.recipe.name,
        train=context.recipe.train.model_dump(mode="json"),
        dense=dense,
        pruned=before,
        retrained=epochs[-1].valid,
        **how(context, epochs, steps=steps_of(context.recipe, context.task), scoring_s=scoring.seconds),
    )
    return trained, record


def _digest_weights(weights: Weights) -> str:
    """Tells the weights that a training begins from, so that no checkpoint of other ones is resumed."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
