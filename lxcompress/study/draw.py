"""The runs of a study: a seed's dense run, and a cell's ticket, each kept with its numbers when it is done."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.data.split import Task
from lxcompress.models.checkpoints import Model, load_start, load_weights, resolve_start, save_model, save_weights
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.published import choose_published_mask
from lxcompress.recipe import FAULTS, Cell, Recipe
from lxcompress.records import Dense, Epoch, Machine, Provenance, Result, Score, Sparsity, read_record
from lxcompress.rundir import RunDir, sha256, write_record, write_whole
from lxcompress.study.agreement import check_fit, essence
from lxcompress.study.watch import Watch
from lxcompress.tickets import draw_ticket, save_mask, save_ticket
from lxcompress.training import fit as fitting
from lxcompress.training.place import Place
from lxcompress.training.usage import UsageMeter


@dataclass(frozen=True)
class Workplace:
    """What every run of a study works with."""

    recipe: Recipe
    run: RunDir
    task: Task
    place: Place
    machine: Machine


@dataclass(frozen=True)
class SeedRun:
    """One seed's model, start weights and dense weights."""

    model: Model
    start: Weights
    dense: Weights


def make_start(recipe: Recipe, task: Task, seed: int) -> tuple[Model, dict[str, Any]]:
    """The model and the start weights of one seed. Raises ModelError, or RecipeError if it cannot read the data."""
    wanted = recipe.model
    last_bias = 0.0 if wanted.last_bias is None and set(recipe.faults) == set(FAULTS) else wanted.last_bias
    model, start = load_start(
        resolve_start(wanted.start),
        task.labels,
        seed,
        pretrained_answers=wanted.pretrained_answers,
        vocabulary=wanted.vocabulary,
        last_bias=last_bias,
        images=task.train.images,
    )
    check_fit(model, task, recipe)
    return model, start


def prepare_seed(here: Workplace, seed: int, watch: Watch) -> SeedRun:
    """The seed's start weights and dense run, made now unless they are there."""
    run = here.run
    source = dense_source(here.recipe, seed)
    model, start = make_start(here.recipe, here.task, source)
    if source != seed:
        prepare_seed(here, source, watch)
        _repeat_dense(run, source, seed)
    if run.start(seed).exists():
        start = load_weights(run.start(seed))
    else:
        save_weights(run.start(seed), start)
    model.module.to(here.place.device)
    if not run.dense_result(seed).exists():
        run_dense(here, model, start, seed, watch)
    return SeedRun(model, start, load_weights(run.dense(seed) / "model.safetensors"))


def dense_source(recipe: Recipe, seed: int) -> int:
    """The seed whose dense run stands for `seed`'s: its own, but for the fault of one run under three names."""
    return recipe.seeds[0] if "one-dense-run" in recipe.faults else seed


def run_dense(here: Workplace, model: Model, start: Weights, seed: int, watch: Watch) -> None:
    """Fine-tunes the start weights of one seed: the baseline that its cells are compared with."""
    folder = here.run.dense(seed)
    folder.mkdir(parents=True, exist_ok=True)
    meter = UsageMeter(here.place).start()
    model.load(start)
    with _timed() as scoring:
        begun = _score(here, model)
    epochs = _fit(here, model, seed, folder, f"dense {seed}", None, watch)
    save_model(folder, model, model.weights, here.task.vocabulary)
    result = Dense(
        seed=seed,
        start=begun,
        trained=epochs[-1].valid,
        usage=meter.stop(),
        **_how(here, epochs, scoring.seconds),
    )
    write_record(here.run.dense_result(seed), result)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    watch.end(f"dense seed {seed}", result.trained.accuracy, result.duration_s)


def run_cell(here: Workplace, seed_run: SeedRun, cell: Cell, watch: Watch) -> None:
    """Draws one ticket, scores it at each station, and keeps both."""
    model, folder = seed_run.model, here.run.ticket(cell)
    folder.mkdir(parents=True, exist_ok=True)
    regrows = "mask-applied-once" in here.recipe.faults
    meter = UsageMeter(here.place).start()
    epochs: list[Epoch] = []

    def choose(dense: Weights) -> Mask:
        return _choose(here.recipe, model, dense, cell)

    def train(rewound: Weights, mask: Mask) -> Weights:
        model.load(rewound)
        epochs.extend(_fit(here, model, cell.seed, folder, cell.id, None if regrows else mask, watch))
        return {name: tensor.detach().cpu().clone() for name, tensor in model.weights.items()}

    drawn = draw_ticket(seed_run.start, seed_run.dense, choose=choose, train=train)
    with _timed() as scoring:
        pruned = _score_weights(here, model, drawn.mask.apply(seed_run.dense))
        rewound = _score_weights(here, model, drawn.rewound)
    sparsity = drawn.mask.count(model.live, model.whole)
    retrained = epochs[-1].valid
    vocabulary = here.task.vocabulary
    if regrows:  # what came of it is no ticket, and its folder says so by having no ticket.json
        save_model(folder, model, drawn.trained, vocabulary)
        save_mask(folder / "mask.safetensors", drawn.mask)
    else:
        provenance = _provenance(here, cell, sparsity, retrained)
        save_ticket(folder, model, mask=drawn.mask, weights=drawn.trained, vocabulary=vocabulary, provenance=provenance)
    result = Result(
        cell=cell.id,
        method={"id": cell.method.id, **cell.method.model_dump(mode="json", exclude_defaults=True)},
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope=cell.method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        faults=list(here.recipe.faults),
        sparsity=sparsity,
        pruned=pruned,
        rewound=rewound,
        retrained=retrained,
        regrown=drawn.mask.count_violations(drawn.trained),
        usage=meter.stop(),
        **_how(here, epochs, scoring.seconds),
    )
    write_record(here.run.result(cell), result)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    watch.end(cell.id, retrained.accuracy, result.duration_s)


def steps_of(recipe: Recipe, task: Task) -> int:
    """The optimizer steps of one run."""
    return recipe.train.epochs * max(1, -(-len(task.train) // recipe.train.batch_size))


def _choose(recipe: Recipe, model: Model, dense: Weights, cell: Cell) -> Mask:
    """The cell's mask, chosen as the recipe's protocol says."""
    if recipe.faults:
        return choose_published_mask(
            {name: dense[name] for name in model.weights},  # the model's order, in which noise is drawn
            is_prunable=model.family.is_prunable,
            criterion=cell.method.criterion,
            sparsity=cell.sparsity,
            seed=cell.seed,
            faults=recipe.faults,
            scope=recipe.prune.scope,
        )
    return choose_mask(
        {name: dense[name] for name in model.prunable},
        criterion=cell.method.criterion,
        sparsity=cell.sparsity,
        scope=cell.method.scope,
        seed=cell.seed,
    )


def _repeat_dense(run: RunDir, source: int, seed: int) -> None:
    """Gives `seed` the dense run of `source`, as the published study's three seeds have one."""
    if run.dense_result(seed).exists():
        return
    write_whole(run.start(seed), lambda part: shutil.copyfile(run.start(source), part))
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        write_whole(run.dense(seed) / name, lambda part, name=name: shutil.copyfile(run.dense(source) / name, part))
    write_record(run.dense_result(seed), read_record(run.dense_result(source), Dense).model_copy(update={"seed": seed}))


def _fit(
    here: Workplace, model: Model, seed: int, folder: Path, what: str, mask: Mask | None, watch: Watch
) -> list[Epoch]:
    """Fits the model as it stands; a checkpoint in `folder` is gone on from if it is of the same work."""
    device = here.place.device
    recipe = here.recipe
    place = f"{device.type} {here.place.precision}"
    key = hashlib.sha256(f"{what}\n{place}\n{sorted(essence(recipe).items())}".encode()).hexdigest()
    return fitting.fit(
        model.module,
        here.task,
        answer=model.family.answer,
        settings=recipe.train,
        place=here.place,
        seed=seed,
        masks={name: kept.to(device) for name, kept in mask.kept.items()} if mask else None,
        checkpoint=folder / "checkpoint.safetensors",
        key=key,
        tell=watch.step,
    )


def _how(here: Workplace, epochs: list[Epoch], scoring_s: float) -> dict[str, Any]:
    """The fields in which the records of all runs say how they were done."""
    return {
        "epochs": epochs,
        "steps": steps_of(here.recipe, here.task),
        "duration_s": scoring_s + sum(epoch.duration_s for epoch in epochs),
        "device": here.place.device.type,
        "precision": here.place.precision,
        "machine": here.machine,
    }


@dataclass
class _Stopwatch:
    seconds: float = 0.0


@contextmanager
def _timed() -> Iterator[_Stopwatch]:
    """A stopwatch that holds, afterwards, the seconds spent inside."""
    watch, started = _Stopwatch(), time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - started


def _score(here: Workplace, model: Model) -> Score:
    model.module.eval()
    return fitting.score(
        model.module, here.task, answer=model.family.answer, settings=here.recipe.train, place=here.place
    )


def _score_weights(here: Workplace, model: Model, weights: Weights) -> Score:
    model.load(weights)
    return _score(here, model)


def _provenance(here: Workplace, cell: Cell, sparsity: Sparsity, accuracy: Score) -> Provenance:
    return Provenance(
        cell=cell.id,
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope=cell.method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=sparsity,
        start_file=f"../../seeds/{cell.seed}/start.safetensors",
        start_sha256=sha256(here.run.start(cell.seed)),
        data=here.recipe.data.model_dump(mode="json"),
        accuracy=accuracy,
    )
