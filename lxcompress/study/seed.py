"""The part of a study that belongs to one seed: its start weights, its dense run, and the files of that run.

Some methods need weights from the course of the dense run: snapshots after given steps, or the movement of weights.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lxcompress.checksums import check_files, dense_origin, hash_files
from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import find_origin
from lxcompress.data.tokens import WORD_FILES
from lxcompress.errors import RecipeError, RunError, TicketError
from lxcompress.filenames import CHECKPOINT_FILE, CONFIG_FILE, RELIABILITY_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import Model, load_weights, save_model, save_weights
from lxcompress.models.kept import check_like, load_kept, save_kept
from lxcompress.models.origin import set_origin
from lxcompress.models.start import NewLayers, load_start, resolve_start
from lxcompress.pruning.mask import Weights
from lxcompress.pruning.surgery import Surgery, UnitGroup, find_groups
from lxcompress.recipe import FAULTS, Recipe
from lxcompress.records import Dense, Epoch, FirstStepRecord, Provenance, is_whole, read_record, read_unsealed
from lxcompress.rundir import RunDir, read_dense, sha256, write_record, write_whole
from lxcompress.study.agreement import check_protocol, find_vocabulary
from lxcompress.study.context import (
    StudyContext,
    count_steps,
    fit,
    make_spec,
    record_confidence,
    run_fields,
    score,
    score_test,
    timed,
)
from lxcompress.study.reporter import SilentReporter, StudyReporter
from lxcompress.training.device import move
from lxcompress.training.movement import Movement
from lxcompress.training.snapshots import Snapshots
from lxcompress.training.usage import UsageMeter

REWIND_AT = 0.1
"""The default step of late rewinding, as a fraction (0-1) of the dense run's steps: the end of the recipes' warm-up."""


@dataclass(frozen=True)
class MadeSmaller:
    """The origin of a smaller model: the model of the seed, and the first step that made the smaller model of it."""

    whole: SeedRun
    surgery: Surgery
    record: FirstStepRecord


@dataclass(frozen=True)
class SeedRun:
    """The model, start weights and dense weights of one seed.

    For the second step of a compound method it is the smaller model that `first` made: its start weights are those of
    the seed without the removed units, and its `dense` weights are those trained by the first step.
    """

    seed: int
    model: Model
    start: Weights
    dense: Weights
    groups: dict[str, tuple[UnitGroup, ...]] = field(default_factory=dict)
    first: MadeSmaller | None = None

    @property
    def whole(self) -> SeedRun:
        """The SeedRun of the model before a first step; the same object if there is none."""
        return self.first.whole if self.first else self

    def cut(self, weights: Weights) -> Weights:
        """Return `weights` of the whole model without the units that a first step removed."""
        return self.first.surgery.apply(weights) if self.first else weights

    def find_groups(self, granularity: str) -> tuple[UnitGroup, ...]:
        """Return the model's groups of units of a structured granularity; only the first call traces the model."""
        if granularity not in self.groups:
            self.groups[granularity] = find_groups(self.model, granularity.split("+"))
        return self.groups[granularity]


def make_start(recipe: Recipe, task: AnswerTask, seed: int) -> tuple[Model, dict[str, Any]]:
    """Return the model and the start weights of one seed.

    Raises ModelError for a start model that cannot be used, and RecipeError if the recipe's protocol does not apply to
    its family of models.
    """
    wanted = recipe.model
    last_bias = 0.0 if wanted.last_bias is None and set(recipe.faults) == set(FAULTS) else wanted.last_bias
    model, start = load_start(
        resolve_start(wanted.start),
        task.labels,
        seed,
        layers=NewLayers(
            wanted.pretrained_answers,
            last_bias,
            task.feature_size if wanted.draw_feature_layer else None,
            draws_words=wanted.draw_word_embeddings,
        ),
        vocabulary=find_vocabulary(recipe),
        images=task.train.images,
    )
    set_origin(model.config, find_origin(recipe.data))
    check_protocol(model, recipe)
    return model, start


def prepare_seed(context: StudyContext, seed: int, progress: StudyReporter) -> SeedRun:
    """Return the SeedRun of a seed; make its start weights and its dense run if they do not exist."""
    run = context.run
    source = dense_source(context.recipe, seed)
    model, made = make_start(context.recipe, context.task, source)
    if source != seed:
        prepare_seed(context, source, progress)
        _repeat_dense(run, source, seed)
    start = keep_start(run, seed, made, what=f"start {source}", progress=progress)
    move(model.module, context.device)
    if read_dense(run, seed) is None:
        if run.dense_result(seed).exists():
            progress.remark(
                f"{run.dense_result(seed)}: is empty or cut off; the dense run of seed {seed} is done again"
            )
        run_dense(context, model, start, seed, progress)
    elif source == seed and _lacks_history(context, model, seed, progress):
        _repeat_for_history(context, model, start, seed, progress)
    return SeedRun(seed, model, start, load_dense(run, seed, like=start))


def keep_start(run: RunDir, seed: int, made: Weights, *, what: str, progress: StudyReporter) -> Weights:
    """Return the start weights of a seed from their file in the run folder; without a good file, save `made` as it.

    `made` are the start weights as this machine makes them, and `what` names them in the file. Raises RunError if the
    file is missing or damaged, and the seed's dense run or tickets began from other weights than `made`.
    """
    path, known = run.start(seed), _find_start_sum(run, seed)
    try:
        if path.exists():
            kept = load_kept(path, what, like=made)
            if known in (None, sha256(path)):
                return kept
            reason = "is not the file that the dense run and the tickets of this seed were trained from"
        else:
            reason = "is missing"
    except RunError as error:
        reason = str(error).removeprefix(f"{path}: ").rpartition(";")[0]
    again = path.with_name(f"{path.name}.again")
    try:
        save_kept(again, made, what)
        if known not in (None, sha256(again)):
            save_weights(again, made)  # in the file format of an earlier version
        if known not in (None, sha256(again)):
            raise RunError(
                f"{path}: {reason}, and this machine would make a different one; restore the file, or give another "
                "--out"
            )
        if path.exists():
            progress.remark(f"{path}: {reason}; it was made again")
        os.replace(again, path)
    finally:
        again.unlink(missing_ok=True)
    return made


def load_dense(run: RunDir, seed: int, *, like: Weights) -> Weights:
    """Return the weights of a finished dense run.

    Raises RunError if the files differ from the checksums in the run's record, or the shapes from those of `like`.
    """
    record = read_dense(run, seed)
    assert record is not None
    origin, path = dense_origin(record), run.dense(seed) / WEIGHTS_FILE
    check_files(run.dense(seed), origin)
    weights = load_weights(path)
    check_like(path, weights, like, remedy=origin.remedy)
    return weights


def dense_source(recipe: Recipe, seed: int) -> int:
    """Return the seed whose dense run is used for `seed`.

    It is `seed` itself, or the first seed if the recipe reproduces the fault one-dense-run of the published study.
    """
    return recipe.seeds[0] if "one-dense-run" in recipe.faults else seed


def run_dense(context: StudyContext, model: Model, start: Weights, seed: int, progress: StudyReporter) -> None:
    """Fine-tune the start weights of one seed, and write the model and its record: the baseline of the seed's cells."""
    folder = context.run.dense(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.load(start)
    with UsageMeter(context.device) as meter:
        with timed() as scoring:
            begun = score(context, model)
        epochs = fit_dense(context, model, start, seed, folder, progress)
        with timed(scoring):
            test = score_test(context, model)
        usage = meter.stop()
    context.run.check_claims()
    save_model(folder, model, model.weights, context.task.vocabulary)
    record_confidence(context, model, folder)
    result = Dense(
        seed=seed,
        files=hash_files(folder),
        start_sha256=sha256(context.run.start(seed)),
        start=begun,
        trained=epochs[-1].valid,
        test=test,
        usage=usage,
        **run_fields(context, epochs, steps=count_steps(context.recipe, context.task), scoring_s=scoring.seconds),
    )
    write_record(context.run.dense_result(seed), result)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    progress.end(f"dense seed {seed}", result.trained.accuracy, result.duration_s)


def fit_dense(
    context: StudyContext, model: Model, start: Weights, seed: int, folder: Path, progress: StudyReporter
) -> list[Epoch]:
    """Train the dense model of a seed; save the snapshots and the movement that methods need; return its epochs.

    If a method is added to a finished study, this training is repeated. On the same machine its result is the same.
    """
    hooks: list[Movement | Snapshots] = []
    steps = rewind_steps(context)
    if steps:

        def write(step: int, weights: Weights) -> None:
            save_kept(context.run.snapshot(seed, step), weights, f"step {step} of seed {seed}")

        hooks.append(Snapshots(dict(model.module.named_parameters()), steps=steps, write=write))
    movement = Movement(parameters_of(model)) if _wants_movement(context.recipe) else None
    if movement:
        hooks.append(movement)
    model.load(start)
    what = f"dense {seed}, keeping {sorted(steps)}{' and movement' if movement else ''}"
    epochs = fit(context, model, make_spec(context, what, seed, folder, hooks=hooks), progress.step)
    if movement:
        save_kept(context.run.movement(seed), movement.result, f"movement of seed {seed}")
    return epochs


def _repeat_for_history(
    context: StudyContext, model: Model, start: Weights, seed: int, progress: StudyReporter
) -> None:
    """Repeat a finished dense run, to save the files that later added methods need."""
    folder = context.run.start(seed).parent
    with context.run.alone_at(folder):
        if _lacks_history(context, model, seed, SilentReporter()):  # damaged files were reported before
            progress.prepare(f"repeating the dense run of seed {seed}, to save what its methods need")
            fit_dense(context, model, start, seed, folder, progress)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def rewind_step(context: StudyContext, rewind_at: float | None) -> int:
    """Return the step of the dense run that late rewinding goes back to; it is never the last step.

    `rewind_at` is a fraction (0-1) of the run's steps. Raises RecipeError if a run has only one step.
    """
    steps = count_steps(context.recipe, context.task)
    if steps < 2:
        raise RecipeError("rewind: step needs a run of at least 2 steps, and a run has 1 step here; raise train.epochs")
    return min(steps - 1, max(1, round((rewind_at or REWIND_AT) * steps)))


def rewind_steps(context: StudyContext) -> set[int]:
    """Return the steps of the dense run that the recipe's methods rewind to."""
    methods = context.recipe.prune.all_steps()
    return {rewind_step(context, method.rewind_at) for method in methods if method.rewind == "step"}


def parameters_of(model: Model) -> dict[str, Any]:
    """Return the prunable weights as the model's parameters, which get gradients: name -> parameter."""
    prunable = model.prunable
    return {name: weight for name, weight in model.module.named_parameters() if name in prunable}


def load_snapshot(run: RunDir, model: Model, seed: int, step: int) -> Weights:
    """Return the weights of the dense run after `step`. Raises RunError for a damaged file, or one of another run."""
    like = dict(model.module.named_parameters())
    return load_kept(run.snapshot(seed, step), f"step {step} of seed {seed}", like=like)


def load_movement(run: RunDir, model: Model, seed: int) -> Weights:
    """Return the movement of the dense run's weights. Raises RunError for a damaged file, or one of another run."""
    return load_kept(run.movement(seed), f"movement of seed {seed}", like=parameters_of(model))


def _find_start_sum(run: RunDir, seed: int) -> str | None:
    """Return the SHA-256 of a seed's start weights, from the record of its dense run or a ticket; None if unknown."""
    dense = read_dense(run, seed)
    if dense and dense.start_sha256:
        return dense.start_sha256
    for path in run.ticket_records():
        if is_whole(path) and read_unsealed(path, Provenance, TicketError).seed == seed:
            return read_record(path, Provenance, TicketError).start_sha256
    return None


def _lacks_history(context: StudyContext, model: Model, seed: int, progress: StudyReporter) -> bool:
    """Return whether a snapshot or the movement that a method needs is missing or damaged."""
    run = context.run
    files: list[tuple[Path, Callable[[], Weights]]] = [
        (run.snapshot(seed, step), partial(load_snapshot, run, model, seed, step))
        for step in sorted(rewind_steps(context))
    ]
    if _wants_movement(context.recipe):
        files.append((run.movement(seed), partial(load_movement, run, model, seed)))
    return any([_is_lost(path, load, progress) for path, load in files])  # a list: it reports every damaged file


def _is_lost(path: Path, load: Callable[[], Weights], progress: StudyReporter) -> bool:
    """Return whether a snapshot or the movement is missing or damaged; report a damaged file."""
    if not path.exists():
        return True
    try:
        load()
    except RunError as error:
        progress.remark(f"{str(error).rpartition(';')[0]}; it is made again")
        return True
    return False


def _wants_movement(recipe: Recipe) -> bool:
    """Return whether a method scores weights by the dense run's movement; gradual pruning sums its own movement."""
    methods = recipe.prune.all_steps()
    return any(method.criterion_spec.needs_training and method.schedule != "gradual" for method in methods)


def _repeat_dense(run: RunDir, source: int, seed: int) -> None:
    """Copy the dense run of the seed `source` to `seed`: in the published study, three seeds share one dense run."""
    if read_dense(run, seed) is not None:
        return
    _copy(run.start(source), run.start(seed))
    for name in (CONFIG_FILE, *WORD_FILES, WEIGHTS_FILE, RELIABILITY_FILE):
        if (run.dense(source) / name).is_file():
            _copy(run.dense(source) / name, run.dense(seed) / name)
    write_record(run.dense_result(seed), read_record(run.dense_result(source), Dense).model_copy(update={"seed": seed}))


def _copy(source: Path, target: Path) -> None:
    """Copy a file, as one atomic write."""

    def write(part: Path) -> None:
        shutil.copyfile(source, part)

    write_whole(target, write)
