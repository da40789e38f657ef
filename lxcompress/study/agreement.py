"""What a recipe and a run folder must agree on, and a recipe and its data, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import RecipeError, RunError
from lxcompress.models.checkpoints import Model, load_vocabulary, resolve_start
from lxcompress.models.shape import describe_start
from lxcompress.recipe import AnyData, Recipe, load_run_recipe
from lxcompress.rundir import RunDir, has_work

Item = TypeVar("Item")

GRID_FIELDS = {"seeds", "pick", "export", "bench", "name"}
GRID_PRUNE_FIELDS = {"criteria", "granularities", "methods", "sparsities"}
"""What may differ when a study goes on in a folder: which cells there are, never how one is made."""
MACHINE_FIELDS = {"train.accumulate", "train.compile", "train.eval_batch_size", "train.graph", "train.data_on_device"}
"""What may differ because it only makes a run fit its machine: the remedies where memory is short are among them."""


def resolve_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its paths absolute, so that a run folder can be read from anywhere."""
    start = recipe.model.start
    if start != "mini" and Path(start).exists():
        start = str(Path(start).absolute())
    model = recipe.model.model_copy(update={**_absolute(recipe.model), "start": start})
    data = recipe.data.model_copy(update=_absolute(recipe.data))
    methods = tuple(
        method.model_copy(update={"ticket": str(Path(method.ticket).absolute())}) if method.ticket else method
        for method in recipe.prune.methods
    )
    prune = recipe.prune.model_copy(update={"methods": methods})
    return recipe.model_copy(update={"data": data, "model": model, "prune": prune})


def merge_methods(recipe: Recipe, run: RunDir) -> Recipe:
    """`recipe` with the seeds and the grid that the run folder has already, so that no finished cell is forgotten."""
    if not run.recipe.exists() or not has_work(run):
        return recipe
    kept = load_run_recipe(run.recipe)
    given = {method.id for method in recipe.prune.all_methods()}
    grid = {
        "criteria": _union(kept.prune.plain_criteria, recipe.prune.plain_criteria),
        "granularities": _union(kept.prune.granularities, recipe.prune.granularities),
        "methods": tuple(each for each in kept.prune.methods if each.id not in given) + recipe.prune.methods,
        "sparsities": _union(kept.prune.sparsities, recipe.prune.sparsities),
    }
    widened = recipe.model_copy(
        update={"seeds": _union(kept.seeds, recipe.seeds), "prune": recipe.prune.model_copy(update=grid)}
    )
    ids = [method.id for method in widened.prune.all_methods()]
    twice = next((method_id for index, method_id in enumerate(ids) if method_id in ids[:index]), None)
    if twice:
        raise RunError(
            f"{run.root}: has a method {twice} among its criteria or its methods, and the recipe among the others; "
            "give the new one another name, or give another --out"
        )
    return widened


def check_same_study(recipe: Recipe, run: RunDir) -> None:
    """Raise RunError if the run folder has a dense run or a ticket of a recipe whose cells are made otherwise."""
    if not run.recipe.exists() or not has_work(run):
        return
    kept, given = (cell_defining_fields(each) for each in (load_run_recipe(run.recipe), recipe))
    differing = sorted(key for key in kept.keys() | given.keys() if kept.get(key) != given.get(key))
    if differing:
        key = differing[0]
        raise RunError(
            f"{run.root}: was made with {key}={kept.get(key)}, but now {key}={given.get(key)}; "
            "its results could not be compared: give another --out, or the recipe it was made with"
        )
    begun = {cell.method.id: cell.method for cell in load_run_recipe(run.recipe).cells() if run.ticket(cell).exists()}
    other = next((each for each in recipe.prune.all_methods() if begun.get(each.id, each) != each), None)
    if other:
        raise RunError(
            f"{run.root}: has a method {other.id} that is made otherwise; give the new one another name, "
            "or give another --out"
        )


def is_of_recipe(recipe: Recipe, run: RunDir) -> bool:
    """Whether what was begun in the run folder was begun by a recipe that makes its cells alike."""
    try:
        kept = load_run_recipe(run.recipe)
    except RecipeError:
        return False
    same = {method.id: method for method in kept.prune.all_methods()}
    is_same_method = all(same.get(each.id, each) == each for each in recipe.prune.all_methods())
    return cell_defining_fields(kept) == cell_defining_fields(recipe) and is_same_method


def load_start_task(recipe: Recipe) -> AnswerTask:
    """Return the recipe's AnswerTask, which its start model reads. Raises LxError before anything heavy is done."""
    start, vocabulary = resolve_start(recipe.model.start), recipe.model.vocabulary
    shape = describe_start(f"model.start={recipe.model.start}", start, vocabulary)
    return load_fitting_task(recipe.data, load_vocabulary(start, vocabulary), shape)


def check_protocol(model: Model, recipe: Recipe) -> None:
    """Raises RecipeError unless the recipe's protocol is one for the start model's family."""
    if "every-tensor-pruned" in recipe.faults and model.config.model_type != "lxmert":
        raise RecipeError(
            f"protocol: every-tensor-pruned names tensors of LXMERT, but model.start={recipe.model.start} is a "
            f"{model.config.model_type} model; leave that fault out, or start from an LXMERT (model.start=mini)"
        )


def cell_defining_fields(recipe: Recipe) -> dict[str, object]:
    """The fields that decide how a cell is made, by dotted name."""
    tree = recipe.model_dump(mode="json", exclude=GRID_FIELDS)
    return {
        f"{section}.{field}" if isinstance(value, dict) else section: inner
        for section, value in tree.items()
        for field, inner in (value.items() if isinstance(value, dict) else [("", value)])
        if not (section == "prune" and field in GRID_PRUNE_FIELDS) and f"{section}.{field}" not in MACHINE_FIELDS
    }


def name_paths(data: AnyData) -> dict[str, Any]:
    """Return the settings of a recipe's data with the names of its files in place of their paths.

    A ticket is shipped: it says nothing of the machine that it was made on.
    """
    names = {
        field: [path.name for path in paths] if isinstance(paths, tuple) else paths.name
        for field, paths in _absolute(data).items()
    }
    return {**data.model_dump(mode="json"), **names}


def has_lost_paths(data: AnyData) -> bool:
    """Whether settings of data name files and not their paths, as `name_paths` leaves them."""
    for _, value in data:
        paths = value if isinstance(value, tuple) else (value,)
        if any(isinstance(path, Path) and not path.is_absolute() for path in paths):
            return True
    return False


def _absolute(section: object) -> dict[str, Path | tuple[Path, ...]]:
    """The paths and lists of paths of a recipe's section, absolute."""
    found: dict[str, Path | tuple[Path, ...]] = {}
    for name, value in section:
        if isinstance(value, Path):
            found[name] = value.absolute()
        elif isinstance(value, tuple) and value and all(isinstance(each, Path) for each in value):
            found[name] = tuple(each.absolute() for each in value)
    return found


def _union(kept: tuple[Item, ...], given: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys((*kept, *given)))
