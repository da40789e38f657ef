"""Read recipes from files or from those shipped with the package, with values from the command line.

Keys of earlier versions are still read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lxcompress.catalog.extensions import added_names
from lxcompress.errors import RecipeError
from lxcompress.filenames import RECIPE_FILE
from lxcompress.recipe.data import with_added_data
from lxcompress.recipe.methods import Method
from lxcompress.recipe.recipe import Recipe
from lxcompress.recipe.settings import RECIPE_VERSION, RecipeSection, Train
from lxcompress.settings import SettingsProblem, echo, first_problem, nearest, parse_yaml, read_yaml_file

MOST_KEYS = 10
"""The most sections that the key of an override may name before its last part."""

log = logging.getLogger(__name__)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the Recipe in the YAML file `path`, after each `key=value` of `overrides` replaced a value.

    Relative paths of data are relative to the current folder. Raises RecipeError.
    """
    return read_settings(path, Recipe, overrides)


def load_run_recipe(path: Path) -> Recipe:
    """Return the Recipe in the recipe.yaml of a run folder, without warnings about old keys. Raises RecipeError."""
    return validate_settings(_read_yaml(path), Recipe, str(path))


def shipped_recipes() -> tuple[Path, ...]:
    """Return the paths of the recipes that ship with the package, sorted by name."""
    package = Path(__file__).parents[1]
    folders = [folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()]
    return tuple(sorted(folders[0].glob("*.yaml"))) if folders else ()


def find_recipe(path: Path) -> Path:
    """Return the recipe file that `path` means.

    A file means itself, a run folder means its recipe.yaml, and a name means the shipped recipe of that name. Any other
    path is returned unchanged.
    """
    if path.is_dir() and (path / RECIPE_FILE).is_file():
        return path / RECIPE_FILE
    if path.is_file() or path.parent not in (Path(), Path("recipes")):
        return path
    is_named = path.suffix in ("", ".yaml", ".yml")
    return next((recipe for recipe in shipped_recipes() if is_named and recipe.stem == path.stem), path)


def input_paths(recipe: BaseModel) -> list[Path]:
    """Return all paths in `recipe` (data, vocabulary, ...), and the start model if it is an existing path."""
    found: list[Path] = []
    for _, value in recipe:
        if isinstance(value, BaseModel):
            found += input_paths(value)
        for item in value if isinstance(value, tuple | list) else [value]:
            if isinstance(item, BaseModel) and isinstance(value, tuple | list):
                found += input_paths(item)
            elif isinstance(item, Path):
                found.append(item)
    start = getattr(recipe, "start", None)
    return [*found, Path(start)] if isinstance(start, str) and Path(start).exists() else found


def read_settings(path: Path, kind: type[RecipeSection], overrides: Sequence[str] = ()) -> Any:
    """Return the settings in the YAML file `path` as a `kind`, after each `key=value` of `overrides` replaced a value.

    `path` is a file, a run folder, or the name of a shipped recipe, as in `find_recipe`. Raises RecipeError.
    """
    path = find_recipe(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply(tree, override)
    for old, new in sorted(_find_old_keys(tree)):
        log.warning("%s: %s is now called %s; the old name is still read", path, old, new)
    return validate_settings(tree, kind, str(path))


def validate_settings(tree: Mapping[str, Any], kind: type[RecipeSection], where: str) -> Any:
    """Return the values in `tree` as a `kind`. Raises RecipeError; its message begins with `where`."""
    version = tree.get("version", RECIPE_VERSION)
    if _as_number(version) > RECIPE_VERSION:
        raise RecipeError(
            f"{where}: has recipe version {echo(version)}, but this lxcompress reads versions up to {RECIPE_VERSION}; "
            "upgrade it with: pip install --upgrade lxcompress"
        )
    kind = with_added_data(kind, tree)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        remedy, added_tags = ", or give --set {key}=VALUE", {"data": added_names("data")}
        raise RecipeError(f"{where}: {first_problem(error, kind, remedy=remedy, added_tags=added_tags)}") from None


def _methods(tree: Mapping[str, Any]) -> list[Any]:
    """Return the entries of the list `prune.methods` in a recipe's values; empty if there is no such list."""
    prune = tree.get("prune")
    methods = prune.get("methods") if isinstance(prune, Mapping) else None
    return methods if isinstance(methods, list) else []


def _find_old_keys(tree: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return {(old name, new name)} of the renamed keys whose old names `tree` uses."""
    train = tree.get("train")
    names = {(f"train.{old}", f"train.{new}") for old, new in Train.old_keys.items() if _has(train, old)}
    for method in _methods(tree):
        names |= {(old, new) for old, new in Method.old_keys.items() if _has(method, old)}
    return names


def _has(section: object, key: str) -> bool:
    """Return whether `section` is a mapping that has the key."""
    return isinstance(section, Mapping) and key in section


def _as_number(version: object) -> float:
    """Return a recipe's version as a number; -1 if it is not a number."""
    try:
        return float(version) if isinstance(version, (int, float, str)) else -1
    except ValueError:
        return -1


def dump_recipe(recipe: RecipeSection) -> str:
    """Return the recipe as YAML text with every field, defaults too; a reader of the text gets an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the values in a YAML file. Raises RecipeError."""
    try:
        tree = read_yaml_file(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; {_nearby(path)}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(f"{path}: cannot be read as a recipe ({reason}); give the path of a YAML text file") from None
    except SettingsProblem as problem:
        raise RecipeError(f"{path}: {str(problem).replace('cannot be read:', 'cannot be read as a recipe:')}") from None
    if not isinstance(tree, dict):
        kind = "NoneType, as an empty file" if tree is None else type(tree).__name__
        raise RecipeError(f"{path}: a recipe is a YAML mapping of keys to values, got {kind}")
    return tree


def _nearby(path: Path) -> str:
    """Return a clause with the most similar name of a recipe: a file in the same folder, or a shipped recipe."""
    files = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    shipped = {recipe.stem: recipe for recipe in shipped_recipes()}
    near = nearest(path.name, [file.name for file in files], cutoff=0.6)
    if near:
        return f"give the path of a YAML file, such as {path.parent / near}"
    near = nearest(path.stem, list(shipped))
    if near:
        return f"did you mean {near}, which ships? lxcompress recipes lists all that do"
    return "give a YAML file, or a name that lxcompress recipes lists, such as quickstart, which ships"


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set the value of one `key=value` in `tree`, in place; dots in the key name sections. Raises RecipeError."""
    key, equals, text = override.partition("=")
    shown = override if len(override) <= 70 else f"{override[:67]}..."
    if not equals or not key:
        raise RecipeError(f"--set {shown}: expected key=value, such as --set train.epochs=2")
    try:
        value = parse_yaml(text)
    except SettingsProblem as problem:
        what = "is not valid YAML" if "is not valid YAML" in str(problem) else str(problem)
        raise RecipeError(f"--set {shown}: the value {what}; quote it, as in --set 'name=\"a: b\"'") from None
    branch = tree
    *parents, leaf = key.split(".")
    if len(parents) > MOST_KEYS:
        raise RecipeError(f"--set {shown}: has {len(parents) + 1} nested keys; a recipe has fewer levels")
    for parent in parents:
        inner = branch.get(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {shown}: {parent[:40]} holds a value, not a section; set it whole")
        branch[parent] = dict(inner)  # a copy: a YAML alias may use the same section elsewhere
        branch = branch[parent]
    branch[leaf] = value
