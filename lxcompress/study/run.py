"""The study: finetune, prune, rewind, retrain, for every cell of a recipe (Frankle & Carbin 2019; Chen et al. 2020).

Per seed, start weights (a pre-trained encoder under a fresh, seeded answer head) are kept, and fine-tuned: the dense
run. Per cell, the dense weights are scored and pruned, the survivors rewound to the start and retrained with the same
budget.
A run (dense or cell) is finished when its last file exists; doing a study again does only what is missing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from lxcompress.data.split import Task
from lxcompress.data.tasks import load_task
from lxcompress.errors import PruneError, RecipeError, RunError
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import (
    Model,
    load_start,
    load_vocabulary,
    load_weights,
    resolve_start,
    save_model,
    save_weights,
)
from lxcompress.pruning.criteria import choose_mask
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.recipe import Cell, Recipe, dump_recipe, load_recipe
from lxcompress.records import Dense, Epoch, Machine, Provenance, Result, Score, Sparsity, read_record
from lxcompress.rundir import RunDir, locked, sha256, write_record, write_text
from lxcompress.study.watch import Unwatched, Watch
from lxcompress.tickets import draw_ticket, save_ticket
from lxcompress.training import fit as fitting
from lxcompress.training.floors import find_floors
from lxcompress.training.optimise import Place, choose_place

Item = TypeVar("Item")

GRID_FIELDS = {"seeds", "pick", "bench", "name"}
GRID_PRUNE_FIELDS = {"criteria", "granularities", "sparsities"}
"""What may differ when a study goes on in a folder: which cells there are, never how one is made."""


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
    """One seed's model, start weights and dense result."""

    model: Model
    start: Weights
    dense_weights: Weights
    dense: Dense


def run_study(recipe: Recipe, root: Path, *, only: str = "*", watch: Watch | None = None) -> int:
    """Runs every missing cell of `recipe` whose id matches the glob `only`, in the run folder `root`.

    Returns how many runs (dense and cells) it did. Raises LxError for what a user can mend.
    """
    watch = watch or Unwatched()
    run = RunDir(root)
    recipe = resolve_recipe(recipe)
    cells = choose_cells(recipe, only)
    with locked(run):
        agree(recipe, run)
        place = choose_place(recipe.device, recipe.train.precision)
        machine = describe_machine()
        if not run.machine.exists():
            write_record(run.machine, machine)
        write_text(run.recipe, dump_recipe(widen(recipe, run)))
        sweep(run)
        missing = missing_runs(cells, run)
        if not missing:
            return 0
        watch.prepare("making the data ready")
        task = load_task(recipe.data, load_vocabulary(resolve_start(recipe.model.start)))
        if not run.floors.exists():
            watch.prepare("finding the floors")
            write_record(run.floors, find_floors(task))
        try:
            return _do(Workplace(recipe, run, task, place, machine), missing, watch)
        finally:
            run.current.unlink(missing_ok=True)


def _do(here: Workplace, missing: Sequence[int | Cell], watch: Watch) -> int:
    """Does the missing runs, a seed after another; a cell that cannot be drawn does not keep the others from it."""
    done, refused = 0, []
    for seed in dict.fromkeys(_seed_of(each) for each in missing):
        if seed in missing:
            watch.begin(f"dense seed {seed}", done, len(missing))
            write_text(here.run.current, f"dense-seed{seed}")
        seed_run = prepare_seed(here, seed, watch)
        done += seed in missing
        for cell in (each for each in missing if isinstance(each, Cell) and each.seed == seed):
            watch.begin(cell.id, done, len(missing))
            write_text(here.run.current, cell.id)
            try:
                run_cell(here, seed_run, cell, watch)
            except PruneError as error:
                refused.append(f"{cell.id}: {error}")
            done += 1
    if refused:
        raise RunError(f"{len(refused)} of {len(missing)} runs could not be drawn, the others are done; {refused[0]}")
    return done


def widen(recipe: Recipe, run: RunDir) -> Recipe:
    """`recipe` with the seeds and the grid that the run folder has already, so that no finished cell is forgotten."""
    if not run.recipe.exists():
        return recipe
    kept = load_recipe(run.recipe)
    grid = {name: _union(getattr(kept.prune, name), getattr(recipe.prune, name)) for name in GRID_PRUNE_FIELDS}
    return recipe.model_copy(
        update={"seeds": _union(kept.seeds, recipe.seeds), "prune": recipe.prune.model_copy(update=grid)}
    )


def sweep(run: RunDir) -> None:
    """Removes the checkpoints of finished runs, which a kill behind their last file can leave."""
    for checkpoint in [*run.root.glob("tickets/*/checkpoint.*"), *run.root.glob("seeds/*/dense/checkpoint.*")]:
        if any((checkpoint.parent / name).exists() for name in ("result.json", "dense.json")):
            checkpoint.unlink()


def resolve_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its paths absolute, so that a run folder can be read from anywhere."""
    paths = {name: value.absolute() for name, value in recipe.data if isinstance(value, Path)}
    start = recipe.model.start
    if start != "mini" and Path(start).is_dir():
        start = str(Path(start).absolute())
    return recipe.model_copy(
        update={"data": recipe.data.model_copy(update=paths), "model": recipe.model.model_copy(update={"start": start})}
    )


def choose_cells(recipe: Recipe, only: str) -> list[Cell]:
    """The recipe's cells whose id matches the glob `only`. Raises RecipeError if none does."""
    cells = [cell for cell in recipe.cells() if fnmatchcase(cell.id, only)]
    if not cells:
        raise RecipeError(f"--only {only}: matches no cell of the recipe; its first is {recipe.cells()[0].id}")
    return cells


def missing_runs(cells: Sequence[Cell], run: RunDir) -> list[int | Cell]:
    """What is still to do, in order: seeds (their dense runs) and cells."""
    seeds = dict.fromkeys(cell.seed for cell in cells)
    missing: list[int | Cell] = []
    for seed in seeds:
        missing += [] if run.dense_result(seed).exists() else [seed]
        missing += [cell for cell in cells if cell.seed == seed and not run.result(cell).exists()]
    return missing


def agree(recipe: Recipe, run: RunDir) -> None:
    """Raises RunError if the run folder was made by a recipe whose cells are made otherwise."""
    if not run.recipe.exists():
        return
    kept, given = (_essence(each) for each in (load_recipe(run.recipe), recipe))
    differing = sorted(key for key in kept.keys() | given.keys() if kept.get(key) != given.get(key))
    if differing:
        key = differing[0]
        raise RunError(
            f"{run.root}: was made with {key}={kept.get(key)}, but now {key}={given.get(key)}; "
            "its results could not be compared: give another --out, or the recipe it was made with"
        )


def prepare_seed(here: Workplace, seed: int, watch: Watch) -> SeedRun:
    """The seed's start weights and dense run, made now unless they are there."""
    recipe, run = here.recipe, here.run
    model, start = load_start(resolve_start(recipe.model.start), here.task.labels, seed)
    check_fit(model, here.task, recipe)
    if run.start(seed).exists():
        start = load_weights(run.start(seed))
    else:
        save_weights(run.start(seed), start)
    model.module.to(here.place.device)
    if not run.dense_result(seed).exists():
        run_dense(here, model, start, seed, watch)
    dense = read_record(run.dense_result(seed), Dense)
    return SeedRun(model, start, load_weights(run.dense(seed) / "model.safetensors"), dense)


def run_dense(here: Workplace, model: Model, start: Weights, seed: int, watch: Watch) -> None:
    """Fine-tunes the start weights of one seed: the baseline that its cells are compared with."""
    folder = here.run.dense(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.load(start)
    started = time.perf_counter()
    begun = _score(here, model)
    scoring_s = time.perf_counter() - started
    epochs = _fit(here, model, seed, folder, f"dense {seed}", None, watch)
    save_model(folder, model, model.weights, here.task.vocabulary)
    result = Dense(
        seed=seed,
        start=begun,
        trained=epochs[-1].valid,
        epochs=epochs,
        steps=steps_of(here.recipe, here.task),
        duration_s=scoring_s + sum(epoch.duration_s for epoch in epochs),
        device=str(here.place.device),
        precision=here.place.precision,
        machine=here.machine,
    )
    write_record(here.run.dense_result(seed), result)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    watch.end(f"dense seed {seed}", result.trained.accuracy, result.duration_s)


def run_cell(here: Workplace, seed_run: SeedRun, cell: Cell, watch: Watch) -> None:
    """Draws one ticket, scores it at each station, and keeps both."""
    model, folder = seed_run.model, here.run.ticket(cell)
    folder.mkdir(parents=True, exist_ok=True)
    epochs: list[Epoch] = []

    def choose(dense: Weights) -> Mask:
        return choose_mask(
            {name: dense[name] for name in model.prunable},
            criterion=cell.criterion,
            sparsity=cell.sparsity,
            scope=here.recipe.prune.scope,
            seed=cell.seed,
        )

    def train(rewound: Weights, mask: Mask) -> Weights:
        model.load(rewound)
        epochs.extend(_fit(here, model, cell.seed, folder, cell.id, mask, watch))
        return {name: tensor.detach().cpu().clone() for name, tensor in model.weights.items()}

    drawn = draw_ticket(seed_run.start, seed_run.dense_weights, choose=choose, train=train)
    started = time.perf_counter()
    pruned = _score_weights(here, model, drawn.mask.apply(seed_run.dense_weights))
    rewound = _score_weights(here, model, drawn.rewound)
    scoring_s = time.perf_counter() - started
    sparsity = drawn.mask.count(model.live, model.whole)
    retrained = epochs[-1].valid
    save_ticket(
        folder,
        model,
        mask=drawn.mask,
        weights=drawn.trained,
        vocabulary=here.task.vocabulary,
        provenance=_provenance(here, cell, sparsity, retrained),
    )
    result = Result(
        cell=cell.id,
        criterion=cell.criterion,
        granularity=cell.granularity,
        scope=here.recipe.prune.scope,
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=sparsity,
        pruned=pruned,
        rewound=rewound,
        retrained=retrained,
        epochs=epochs,
        steps=steps_of(here.recipe, here.task),
        duration_s=scoring_s + sum(epoch.duration_s for epoch in epochs),
        device=str(here.place.device),
        precision=here.place.precision,
        machine=here.machine,
    )
    write_record(here.run.result(cell), result)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    watch.end(cell.id, retrained.accuracy, result.duration_s)


def _fit(
    here: Workplace, model: Model, seed: int, folder: Path, what: str, mask: Mask | None, watch: Watch
) -> list[Epoch]:
    """Fits the model as it stands; a checkpoint in `folder` is gone on from if it is of the same work."""
    device = here.place.device
    recipe = here.recipe
    key = hashlib.sha256(f"{what}\n{here.place}\n{sorted(_essence(recipe).items())}".encode()).hexdigest()
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
        criterion=cell.criterion,
        granularity=cell.granularity,
        scope=here.recipe.prune.scope,
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=sparsity,
        start_file=f"../../seeds/{cell.seed}/start.safetensors",
        start_sha256=sha256(here.run.start(cell.seed)),
        data=here.recipe.data.model_dump(mode="json"),
        accuracy=accuracy,
    )


def check_fit(model: Model, task: Task, recipe: Recipe) -> None:
    """Raises RecipeError unless the start model reads what the data gives."""
    reads = model.config.visual_feat_dim
    if reads != task.feature_size:
        raise RecipeError(
            f"model.start={recipe.model.start}: reads {reads} features a region, but data.kind={recipe.data.kind} "
            f"gives {task.feature_size}; start from a model pre-trained on such data (model.start=mini)"
        )
    if model.config.vocab_size != len(task.vocabulary):
        raise RecipeError(
            f"model.start={recipe.model.start}: its vocab.txt has {len(task.vocabulary)} tokens, but the model "
            f"{model.config.vocab_size}; put the vocabulary of its pre-training beside it"
        )


def steps_of(recipe: Recipe, task: Task) -> int:
    """The optimizer steps of one run."""
    return recipe.train.epochs * max(1, -(-len(task.train) // recipe.train.batch_size))


def _seed_of(run: int | Cell) -> int:
    return run.seed if isinstance(run, Cell) else run


def _union(kept: tuple[Item, ...], given: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys((*kept, *given)))


def _essence(recipe: Recipe) -> dict[str, object]:
    """The fields that decide how a cell is made, by dotted name."""
    tree = recipe.model_dump(mode="json", exclude=GRID_FIELDS)
    return {
        f"{section}.{field}" if isinstance(value, dict) else section: inner
        for section, value in tree.items()
        for field, inner in (value.items() if isinstance(value, dict) else [("", value)])
        if not (section == "prune" and field in GRID_PRUNE_FIELDS)
    }
