"""StudyContext: the data and settings that all runs of a study share, and functions to fit, score and record a run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxcompress.confidence.record import make_record
from lxcompress.data.regions.fewer import keep_regions
from lxcompress.data.split import AnswerTask
from lxcompress.errors import DataError, PruneError
from lxcompress.filenames import CHECKPOINT_FILE, RELIABILITY_FILE
from lxcompress.models.checkpoints import Model
from lxcompress.progress import Progress
from lxcompress.pruning.mask import Weights
from lxcompress.recipe import Recipe
from lxcompress.records import Epoch, Machine, Score, ScoreByQuestion
from lxcompress.rundir import RunDir, write_record
from lxcompress.study.agreement import cell_defining_fields
from lxcompress.training import fit as fitting
from lxcompress.training.confidence import measure_model
from lxcompress.training.device import DeviceSpec
from lxcompress.training.spec import FitSpec


@dataclass(frozen=True)
class StudyContext:
    """The recipe, run folder, data, device and machine that all runs of a study share."""

    recipe: Recipe
    run: RunDir
    task: AnswerTask
    device: DeviceSpec
    machine: Machine


def see_regions(context: StudyContext, regions: int | None) -> StudyContext:
    """Return the context of a cell whose model sees `regions` regions of an image; None leaves it as it is.

    Raises PruneError if the data have no such setting, or too few regions.
    """
    if regions is None:
        return context
    data = context.recipe.data
    if "regions" not in type(data).model_fields:
        raise PruneError(f"prune.regions: data.kind={data.kind} has no regions to leave out; leave prune.regions out")
    try:
        task = keep_regions(context.task, regions)
    except DataError as error:
        raise PruneError(f"prune.regions: {error}") from None
    recipe = context.recipe.model_copy(update={"data": data.model_copy(update={"regions": regions})})
    return replace(context, recipe=recipe, task=task)


def make_spec(context: StudyContext, what: str, seed: int, folder: Path, **changes: Any) -> FitSpec:
    """Return the FitSpec of a fit with the recipe's settings; make `folder`, where its checkpoint goes.

    `what` names the fit in the key of its checkpoint. `changes` are further fields of the FitSpec, or replace those of
    the recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = checkpoint_key(context, what)
    fields = {"settings": context.recipe.train, "checkpoint": folder / CHECKPOINT_FILE, "key": key, **changes}
    return FitSpec(seed=seed, **fields)


def checkpoint_key(context: StudyContext, what: str) -> str:
    """Return the key of a checkpoint; it depends on `what` (the name of the fit), the device and the recipe.

    Do not change how the key is made: interrupted runs of earlier versions would start over.
    """
    runs_on = f"{context.device.torch_device.type} {context.device.precision}"
    fields = sorted(cell_defining_fields(context.recipe).items())
    extractor = context.task.extractor
    if extractor is not None and extractor.version:
        fields.append(("data.extractor", f"{extractor.name} {extractor.version}"))
    return hashlib.sha256(f"{what}\n{runs_on}\n{fields}".encode()).hexdigest()


def fit(context: StudyContext, model: Model, spec: FitSpec, progress: Progress) -> list[Epoch]:
    """Fit the model from its current weights, or from the checkpoint if it belongs to this fit; return its epochs.

    Raises LeaseLostError if another process may have taken over what this process is doing.
    """

    def report(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        context.run.check_claims()
        progress(what, done, total, value=value)

    epochs = fitting.fit(
        model.module,
        context.task,
        spec,
        answer=model.family.answer,
        device=context.device,
        progress=report,
    )
    context.run.check_claims()
    return epochs


def score(context: StudyContext, model: Model) -> Score:
    """Return the validation Score of the model with its current weights."""
    model.module.eval()
    return fitting.score(
        model.module,
        context.task,
        answer=model.family.answer,
        settings=context.recipe.train,
        device=context.device,
    )


def score_test(context: StudyContext, model: Model) -> ScoreByQuestion | None:
    """Return the test Score of the model with its current weights; None if the recipe has no test split."""
    return fitting.score_test(
        model.module.eval(),
        context.task,
        answer=model.family.answer,
        settings=context.recipe.train,
        device=context.device,
    )


def record_confidence(context: StudyContext, model: Model, folder: Path) -> None:
    """Measure the confidence of the model's answers with its current weights, and write the record into `folder`."""
    found = measure_model(model, context.task.valid, context.recipe.train, context.device)
    if found:
        write_record(folder / RELIABILITY_FILE, make_record(found))


def score_weights(context: StudyContext, model: Model, weights: Weights) -> Score:
    """Load `weights` into the model, and return its validation Score."""
    model.load(weights)
    return score(context, model)


def count_steps(recipe: Recipe, task: AnswerTask) -> int:
    """Return the number of optimizer steps of one training with the recipe's epochs."""
    return recipe.train.epochs * max(1, -(-len(task.train) // recipe.train.batch_size))


def run_fields(context: StudyContext, epochs: Sequence[Epoch], *, steps: int, scoring_s: float) -> dict[str, Any]:
    """Return the fields of a run's record that say how the run was done; `scoring_s` is time outside the epochs."""
    return {
        "epochs": list(epochs),
        "steps": steps,
        "duration_s": scoring_s + sum(epoch.duration_s for epoch in epochs),
        "device": context.device.torch_device.type,
        "precision": context.device.precision,
        "machine": context.machine,
    }


@dataclass
class Stopwatch:
    """The sum of the seconds that were spent inside `timed` blocks."""

    seconds: float = 0.0


@contextmanager
def timed(watch: Stopwatch | None = None) -> Iterator[Stopwatch]:
    """Yield `watch`, or a new Stopwatch; add the seconds of the block to it when the block ends."""
    watch, started = watch or Stopwatch(), time.perf_counter()
    yield watch
    watch.seconds += time.perf_counter() - started
