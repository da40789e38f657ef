"""A seed's part of a study: its start weights, its dense run, and what is kept of that run's course."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxcompress.checksums import check_files, dense_origin, hash_files
from lxcompress.data.split import AnswerTask
from lxcompress.data.tokens import WORD_FILES
from lxcompress.errors import RecipeError, RunError, TicketError
from lxcompress.filenames import CHECKPOINT_FILE, CONFIG_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import (
    HeadInit,
    Model,
    load_start,
    load_weights,
    resolve_start,
    save_model,
    save_weights,
)
from lxcompress.models.kept import check_like, load_kept, save_kept
from lxcompress.pruning.mask import Weights
from lxcompress.pruning.surgery import UnitGroup, find_groups
from lxcompress.recipe import FAULTS, Recipe
from lxcompress.records import Dense, Epoch, Provenance, is_whole, read_record, read_unsealed
from lxcompress.rundir import RunDir, read_dense, sha256, write_record, write_whole
from lxcompress.study.agreement import check_protocol
from lxcompress.study.watch import Unwatched, Watch
from lxcompress.study.work import Fitting, StudyContext, fit, how, score, steps_of, timed
from lxcompress.training.device import move
from lxcompress.training.movement import Movement
from lxcompress.training.snapshots import Snapshots
from lxcompress.training.usage import UsageMeter

REWIND_AT = 0.1
"""Where late rewinding goes back to, as a share of the dense run's steps, unless a method says otherwise: the end of
the recipes' warm-up."""


@dataclass(frozen=True)
class SeedRun:
    """One seed's model, start weights and dense weights."""

    seed: int
    model: Model
    start: Weights
    dense: Weights
    groups: dict[str, tuple[UnitGroup, ...]] = field(default_factory=dict)

    def find_groups(self, granularity: str) -> tuple[UnitGroup, ...]:
        """The model's units of a structured granularity; it is traced for them once."""
        if granularity not in self.groups:
            self.groups[granularity] = find_groups(self.model, granularity.split("+"))
        return self.groups[granularity]


def make_start(recipe: Recipe, task: AnswerTask, seed: int) -> tuple[Model, dict[str, Any]]:
    """The model and the start weights of one seed. Raises ModelError, or RecipeError for a protocol of others."""
    wanted = recipe.model
    last_bias = 0.0 if wanted.last_bias is None and set(recipe.faults) == set(FAULTS) else wanted.last_bias
    model, start = load_start(
        resolve_start(wanted.start),
        task.labels,
        seed,
        head=HeadInit(wanted.pretrained_answers, last_bias),
        vocabulary=wanted.vocabulary,
        images=task.train.images,
    )
    check_protocol(model, recipe)
    return model, start


def prepare_seed(context: StudyContext, seed: int, watch: Watch) -> SeedRun:
    """The seed's start weights and dense run, made now unless they are there."""
    run = context.run
    source = dense_source(context.recipe, seed)
    model, start = make_start(context.recipe, context.task, source)
    if source != seed:
        prepare_seed(context, source, watch)
        _repeat_dense(run, source, seed)
    start = keep_start(run, seed, start, what=f"start {source}", watch=watch)
    move(model.module, context.device)
    if read_dense(run, seed) is None:
        if run.dense_result(seed).exists():
            watch.remark(f"{run.dense_result(seed)}: is empty or cut off; the dense run of seed {seed} is done again")
        run_dense(context, model, start, seed, watch)
    elif source == seed and _untraced(context, model, seed, watch):
        _follow_again(context, model, start, seed, watch)
    return SeedRun(seed, model, start, load_dense(run, seed, like=start))


def keep_start(run: RunDir, seed: int, made: Weights, *, what: str, watch: Watch) -> Weights:
    """Return the start weights of a seed: those that are kept, or `made` where none are, which are then kept.

    A damaged file is made again where that gives the file that the seed's dense run and tickets began from.
    Raises RunError where it does not.
    """
    path, known = run.start(seed), _find_start_sum(run, seed)
    try:
        if path.exists():
            kept = load_kept(path, what, like=made)
            if known in (None, sha256(path)):
                return kept
            reason = "is not the file that this seed's dense run and tickets began from"
        else:
            reason = "is missing"
    except RunError as error:
        reason = str(error).removeprefix(f"{path}: ").rpartition(";")[0]
    again = path.with_name(f"{path.name}.again")
    try:
        save_kept(again, made, what)
        if known not in (None, sha256(again)):
            save_weights(again, made)  # as an earlier version wrote it
        if known not in (None, sha256(again)):
            raise RunError(f"{path}: {reason}, and this machine makes another; restore the file, or give another --out")
        if path.exists():
            watch.remark(f"{path}: {reason}; it was made again")
        os.replace(again, path)
    finally:
        again.unlink(missing_ok=True)
    return made


def load_dense(run: RunDir, seed: int, *, like: Weights) -> Weights:
    """Return the weights of a finished dense run. Raises RunError unless they are those that its record names."""
    record = read_dense(run, seed)
    assert record is not None
    origin, path = dense_origin(record), run.dense(seed) / WEIGHTS_FILE
    check_files(run.dense(seed), origin)
    weights = load_weights(path)
    check_like(path, weights, like, remedy=origin.remedy)
    return weights


def dense_source(recipe: Recipe, seed: int) -> int:
    """The seed whose dense run stands for `seed`'s: its own, but for the fault of one run under three names."""
    return recipe.seeds[0] if "one-dense-run" in recipe.faults else seed


def run_dense(context: StudyContext, model: Model, start: Weights, seed: int, watch: Watch) -> None:
    """Fine-tunes the start weights of one seed: the baseline that its cells are compared with."""
    folder = context.run.dense(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.load(start)
    with UsageMeter(context.device) as meter:
        with timed() as scoring:
            begun = score(context, model)
        epochs = trace(context, model, start, seed, folder, watch)
        usage = meter.stop()
    save_model(folder, model, model.weights, context.task.vocabulary)
    result = Dense(
        seed=seed,
        files=hash_files(folder),
        start_sha256=sha256(context.run.start(seed)),
        start=begun,
        trained=epochs[-1].valid,
        usage=usage,
        **how(context, epochs, steps=steps_of(context.recipe, context.task), scoring_s=scoring.seconds),
    )
    write_record(context.run.dense_result(seed), result)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    watch.end(f"dense seed {seed}", result.trained.accuracy, result.duration_s)


def trace(context: StudyContext, model: Model, start: Weights, seed: int, folder: Path, watch: Watch) -> list[Epoch]:
    """The fit of the dense run, with what the recipe's methods want kept of its course.

    A method that comes to a finished study lets it be done once more: on one machine with the same outcome.
    """
    hooks: list[Movement | Snapshots] = []
    steps = rewind_steps(context)
    if steps:

        def keep(step: int, weights: Weights) -> None:
            save_kept(context.run.snapshot(seed, step), weights, f"step {step} of seed {seed}")

        hooks.append(Snapshots(dict(model.module.named_parameters()), steps=steps, write=keep))
    movement = Movement(parameters_of(model)) if _wants_movement(context.recipe) else None
    if movement:
        hooks.append(movement)
    model.load(start)
    what = f"dense {seed}, keeping {sorted(steps)}{' and movement' if movement else ''}"
    epochs = fit(context, model, Fitting(what, seed, folder, hooks=hooks), watch)
    if movement:
        save_kept(context.run.movement(seed), movement.result, f"movement of seed {seed}")
    return epochs


def _follow_again(context: StudyContext, model: Model, start: Weights, seed: int, watch: Watch) -> None:
    """Follows a dense run that is done already, for the methods that came to the study later."""
    folder = context.run.start(seed).parent
    with context.run.alone_at(folder):
        if _untraced(context, model, seed, Unwatched()):  # what is damaged was said before
            watch.prepare(f"following the dense run of seed {seed} once more, for what its methods need")
            trace(context, model, start, seed, folder, watch)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def rewind_step(context: StudyContext, rewind_at: float | None) -> int:
    """The step of the dense run that late rewinding goes back to: at least the first, and not the last.

    Raises RecipeError for a run of one step, which leaves none to do.
    """
    steps = steps_of(context.recipe, context.task)
    if steps < 2:
        raise RecipeError("rewind: step goes back within a run, and a run has one step here; give train.epochs more")
    return min(steps - 1, max(1, round((rewind_at or REWIND_AT) * steps)))


def rewind_steps(context: StudyContext) -> set[int]:
    """The steps that the recipe's methods rewind to."""
    methods = context.recipe.prune.all_methods()
    return {rewind_step(context, method.rewind_at) for method in methods if method.rewind == "step"}


def parameters_of(model: Model) -> dict[str, Any]:
    """The prunable weights as parameters, whose gradients can be read."""
    prunable = model.prunable
    return {name: weight for name, weight in model.module.named_parameters() if name in prunable}


def load_snapshot(run: RunDir, model: Model, seed: int, step: int) -> Weights:
    """Return the weights of the dense run at `step`. Raises RunError for a file that is damaged, or of another run."""
    like = dict(model.module.named_parameters())
    return load_kept(run.snapshot(seed, step), f"step {step} of seed {seed}", like=like)


def load_movement(run: RunDir, model: Model, seed: int) -> Weights:
    """Return what the dense run added up. Raises RunError for a file that is damaged, or of another run."""
    return load_kept(run.movement(seed), f"movement of seed {seed}", like=parameters_of(model))


def _find_start_sum(run: RunDir, seed: int) -> str | None:
    """Return the SHA-256 of the start weights that the seed's dense run began from, or one of its tickets; None where
    neither is known."""
    dense = read_dense(run, seed)
    if dense and dense.start_sha256:
        return dense.start_sha256
    for path in run.ticket_records():
        if is_whole(path) and read_unsealed(path, Provenance, TicketError).seed == seed:
            return read_record(path, Provenance, TicketError).start_sha256
    return None


def _untraced(context: StudyContext, model: Model, seed: int, watch: Watch) -> bool:
    """Whether a method needs what the dense run did not keep, or what was damaged since."""
    run = context.run
    kept = [
        (run.snapshot(seed, step), lambda step=step: load_snapshot(run, model, seed, step))
        for step in sorted(rewind_steps(context))
    ]
    if _wants_movement(context.recipe):
        kept.append((run.movement(seed), lambda: load_movement(run, model, seed)))
    return any([_is_lost(path, load, watch) for path, load in kept])


def _is_lost(path: Path, load: Callable[[], Weights], watch: Watch) -> bool:
    """Whether what a dense run kept is missing or damaged; says so of a damaged file."""
    if not path.exists():
        return True
    try:
        load()
    except RunError as error:
        watch.remark(f"{str(error).rpartition(';')[0]}; it is made again")
        return True
    return False


def _wants_movement(recipe: Recipe) -> bool:
    """Whether a method ranks by the movement of the dense run; gradual pruning has a movement of its own."""
    methods = recipe.prune.all_methods()
    return any(method.criterion_spec.needs_training and method.schedule != "gradual" for method in methods)


def _repeat_dense(run: RunDir, source: int, seed: int) -> None:
    """Gives `seed` the dense run of `source`, as the published study's three seeds have one."""
    if read_dense(run, seed) is not None:
        return
    write_whole(run.start(seed), lambda part: shutil.copyfile(run.start(source), part))
    for name in (CONFIG_FILE, *WORD_FILES, WEIGHTS_FILE):
        if not (run.dense(source) / name).is_file():
            continue
        write_whole(run.dense(seed) / name, lambda part, name=name: shutil.copyfile(run.dense(source) / name, part))
    write_record(run.dense_result(seed), read_record(run.dense_result(source), Dense).model_copy(update={"seed": seed}))
