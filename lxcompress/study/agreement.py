"""Checks before a study runs: whether a recipe agrees with its run folder, its data and its start model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.data.fit import foresee_data
from lxcompress.data.regions.identity import extractor_of_model, is_same_extractor, name_extractors
from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import DataError, RecipeError, RunError
from lxcompress.filenames import CONFIG_FILE
from lxcompress.models.checkpoints import Model
from lxcompress.models.shape import describe_start
from lxcompress.models.start import resolve_start
from lxcompress.models.vocabulary import choose_vocabulary, load_vocabulary
from lxcompress.recipe import AnyData, Recipe, load_run_recipe
from lxcompress.rundir import RunDir, has_work

Item = TypeVar("Item")

GRID_FIELDS = {"seeds", "pick", "export", "bench", "name", "processes"}
GRID_PRUNE_FIELDS = {"criteria", "granularities", "methods", "regions", "sparsities"}
"""Settings that may change when a study is run again in the same folder: they decide which cells there are, not how a
cell is made. GRID_FIELDS are sections and fields of the recipe, GRID_PRUNE_FIELDS are fields of its section prune."""
MACHINE_FIELDS = {"train.accumulate", "train.compile", "train.eval_batch_size", "train.graph", "train.data_on_device"}
"""Settings that may change because they only adapt a run to its machine, such as those that save memory."""

ADDED_FIELDS = {"model.draw_feature_layer": False, "model.draw_word_embeddings": False}
"""Fields of the recipe that earlier versions did not have -> the value with which they change nothing. They are then
left out, so that runs that an earlier version began can be resumed."""


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, so that a run folder can be read from any working directory.

    Numbers in `prune.regions` that remove no region are left out: the dense run sees all of them.
    """
    start = recipe.model.start
    if start != "mini" and Path(start).exists():
        start = str(Path(start).absolute())
    model = recipe.model.model_copy(update={**_absolute(recipe.model), "start": start})
    data = recipe.data.model_copy(update=_absolute(recipe.data))
    methods = tuple(
        method.model_copy(update={"ticket": str(Path(method.ticket).absolute())}) if method.ticket else method
        for method in recipe.prune.methods
    )
    regions = tuple(count for count in recipe.prune.regions if count < (_count_regions(recipe) or math.inf))
    prune = recipe.prune.model_copy(update={"methods": methods, "regions": regions})
    return recipe.model_copy(update={"data": data, "model": model, "prune": prune})


def _count_regions(recipe: Recipe) -> int | None:
    """Return the most regions of an image that the data give; None if the data must be read to know it."""
    if not recipe.prune.regions:
        return None
    try:
        return foresee_data(recipe.data).regions
    except DataError:  # the store is not on this machine; --dry-run estimates without it
        return None


def merge_methods(recipe: Recipe, run: RunDir) -> Recipe:
    """Return `recipe` with the seeds, methods and sparsities of the run folder's recipe added.

    So the merged recipe still names every cell that was finished in this folder. Raises RunError if two methods of the
    merged recipe have the same id.
    """
    if not run.recipe.exists() or not has_work(run):
        return recipe
    kept = load_run_recipe(run.recipe)
    given = {method.id for method in recipe.prune.all_methods()}
    grid = {
        "criteria": _union(kept.prune.plain_criteria, recipe.prune.plain_criteria),
        "granularities": _union(kept.prune.granularities, recipe.prune.granularities),
        "methods": tuple(method for method in kept.prune.methods if method.id not in given) + recipe.prune.methods,
        "regions": _union(kept.prune.regions, recipe.prune.regions),
        "sparsities": _union(kept.prune.sparsities, recipe.prune.sparsities),
    }
    widened = recipe.model_copy(
        update={"seeds": _union(kept.seeds, recipe.seeds), "prune": recipe.prune.model_copy(update=grid)}
    )
    ids = [method.id for method in widened.prune.all_methods()]
    twice = next((method_id for index, method_id in enumerate(ids) if method_id in ids[:index]), None)
    if twice:
        raise RunError(
            f"{run.root}: method {twice} is under both prune.criteria and prune.methods: one in this folder, the other "
            "in "
            "the recipe; give the new method another name, or give another --out"
        )
    return widened


def check_same_study(recipe: Recipe, run: RunDir) -> None:
    """Raise RunError if the run folder has a dense run or a ticket that `recipe` would make in another way.

    A test split may be added: it changes no run.
    """
    if not run.recipe.exists() or not has_work(run):
        return
    _check_same_extractor(recipe, run)
    kept, given = (cell_defining_fields(made_with) for made_with in (load_run_recipe(run.recipe), recipe))
    new = {f"data.{name}" for name in find_data_kind(recipe.data.kind).test_settings if f"data.{name}" not in kept}
    differing = sorted(key for key in (kept.keys() | given.keys()) - new if kept.get(key) != given.get(key))
    if differing:
        key = differing[0]
        raise RunError(
            f"{run.root}: was made with {key}={kept.get(key)}, but now {key}={given.get(key)}; "
            "their results cannot be compared; give another --out, or the recipe it was made with"
        )
    begun = {cell.method.id: cell.method for cell in load_run_recipe(run.recipe).cells() if run.ticket(cell).exists()}
    other = next((method for method in recipe.prune.all_methods() if begun.get(method.id, method) != method), None)
    if other:
        raise RunError(
            f"{run.root}: has a method {other.id} with other settings; give the new one another name, or give another "
            "--out"
        )


def _check_same_extractor(recipe: Recipe, run: RunDir) -> None:
    """Raise RunError if a dense run of the folder was trained on the features of another extractor."""
    made_by = foresee_data(recipe.data).extractor
    for path in sorted(run.root.glob(f"seeds/*/dense/{CONFIG_FILE}")) if made_by else ():
        trained_on = extractor_of_model(path.parent)
        if made_by and trained_on and not is_same_extractor(trained_on, made_by):
            old, new = name_extractors(trained_on, made_by)
            raise RunError(
                f"{run.root}: was made with features of {old}, but data.features now has those of {new}; "
                "their results cannot be compared; give another --out, or the store that it was made with"
            )


def belongs_to_recipe(recipe: Recipe, run: RunDir) -> bool:
    """Return whether the run folder was begun with a recipe that makes its cells in the same way as `recipe`."""
    try:
        kept = load_run_recipe(run.recipe)
    except RecipeError:
        return False
    same = {method.id: method for method in kept.prune.all_methods()}
    is_same_method = all(same.get(method.id, method) == method for method in recipe.prune.all_methods())
    return cell_defining_fields(kept) == cell_defining_fields(recipe) and is_same_method


def load_start_task(recipe: Recipe) -> AnswerTask:
    """Return the recipe's data, tokenized for its start model. Raises LxError, before any slow work."""
    start, vocabulary = resolve_start(recipe.model.start), find_vocabulary(recipe)
    draws_layer = recipe.model.draw_feature_layer
    shape = describe_start(f"model.start={recipe.model.start}", start, vocabulary, draws_feature_layer=draws_layer)
    return load_fitting_task(recipe.data, load_vocabulary(start, vocabulary), shape)


def find_vocabulary(recipe: Recipe) -> Path | None:
    """Return the vocabulary that replaces the one of the recipe's start model; None keeps that one. Raises LxError."""
    language = getattr(recipe.data, "language", None)
    return choose_vocabulary(resolve_start(recipe.model.start), recipe.model.vocabulary, language)


def check_protocol(model: Model, recipe: Recipe) -> None:
    """Raise RecipeError if the recipe's protocol does not apply to the family of the start model."""
    if "every-tensor-pruned" in recipe.faults and model.config.model_type != "lxmert":
        raise RecipeError(
            f"protocol: every-tensor-pruned names tensors of LXMERT, but model.start={recipe.model.start} is a "
            f"{model.config.model_type} model; leave that fault out, or start from an LXMERT (model.start=mini)"
        )


def cell_defining_fields(recipe: Recipe) -> dict[str, object]:
    """Return the settings that decide how a cell is made: dotted name -> value."""
    tree = recipe.model_dump(mode="json", exclude=GRID_FIELDS)
    fields = {
        f"{section}.{field}" if isinstance(value, dict) else section: inner
        for section, value in tree.items()
        for field, inner in (value.items() if isinstance(value, dict) else [("", value)])
        if not (section == "prune" and field in GRID_PRUNE_FIELDS) and f"{section}.{field}" not in MACHINE_FIELDS
    }
    return {name: value for name, value in fields.items() if name not in ADDED_FIELDS or value != ADDED_FIELDS[name]}


def name_paths(data: AnyData) -> dict[str, Any]:
    """Return the settings of a recipe's data, with file names instead of paths.

    A ticket may be published, and should not show the folders of the machine that made it.
    """
    names = {
        field: [path.name for path in paths] if isinstance(paths, tuple) else paths.name
        for field, paths in _absolute(data).items()
    }
    return {**data.model_dump(mode="json"), **names}


def has_lost_paths(data: AnyData) -> bool:
    """Return whether the data's settings have file names instead of paths, as `name_paths` makes them."""
    for _, value in data:
        paths = value if isinstance(value, tuple) else (value,)
        if any(isinstance(path, Path) and not path.is_absolute() for path in paths):
            return True
    return False


def _absolute(section: BaseModel) -> dict[str, Path | tuple[Path, ...]]:
    """Return the settings of a recipe's section that are paths, made absolute: name of the setting -> path or paths."""
    found: dict[str, Path | tuple[Path, ...]] = {}
    for name, value in section:
        if isinstance(value, Path):
            found[name] = value.absolute()
        elif isinstance(value, tuple) and value and all(isinstance(path, Path) for path in value):
            found[name] = tuple(path.absolute() for path in value)
    return found


def _union(kept: tuple[Item, ...], given: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return the items of `kept`, then those of `given` that are not among them; each item comes once."""
    return tuple(dict.fromkeys((*kept, *given)))
