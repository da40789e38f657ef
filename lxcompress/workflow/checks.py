"""Check the names and paths given to a command, before torch, transformers or onnx are imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.errors import ExportError, LxError, PruneError
from lxcompress.filenames import ARTIFACT_FILE, CONFIG_FILE, TICKET_FILE
from lxcompress.models.source import check_source, is_original, is_there, near_path
from lxcompress.writing import WriteError, check_out, is_vacant

if TYPE_CHECKING:
    from lxcompress.recipe import Recipe


def check_model(source: str) -> None:
    """Raise ModelError if the model at `source` does not exist; a model of the Hugging Face hub is downloaded."""
    check_source(source)


def check_scored(source: str) -> None:
    """Raise ModelError if the model, ticket or artifact to evaluate does not exist."""
    if not is_there(Path(source) / ARTIFACT_FILE):
        check_source(source)


def check_ticket(path: Path) -> None:
    """Raise LxError if the ticket or model to export does not exist, or is a file that is not a model."""
    if is_there(path) and not path.is_dir() and not is_original(str(path)):
        raise ExportError(
            f"{path}: is a file, expected a folder or a .pth file; give a ticket, or a transformers folder"
        )
    check_model(str(path))


def check_empty(out: Path) -> None:
    """Raise PruneError if `out` exists, unless it is an empty folder."""
    if is_there(out) and (not out.is_dir() or not is_vacant(out)):
        raise PruneError(f"--out {out}: exists and is not an empty folder; give another --out, or remove it")


def check_paths(paths: Sequence[Path], *, what: str, kind: type[LxError]) -> None:
    """Raise an error of the class `kind` for the first of `paths` that does not exist.

    The error ends with `what`, which says what the user should give.
    """
    for path in paths:
        if not is_there(path):
            raise kind(f"{path}: no such folder{near_path(path)}; {what}")


def check_run_folder(root: Path, recipe: Recipe, recipe_path: Path | None) -> None:
    """Raise WriteError if a study in the folder `root` would overwrite its own inputs, a model or an artifact."""
    from lxcompress.recipe import input_paths
    from lxcompress.rundir import RunDir

    check_out(root, input_paths(recipe), kind="run")
    run = RunDir(root)
    found = next((name for name in (TICKET_FILE, ARTIFACT_FILE, CONFIG_FILE) if (root / name).exists()), None)
    if found and not run.recipe.exists():
        raise WriteError(
            f"--out {root}: is a model or an artifact (it has {found}); give a new folder, or a run folder"
        )
    if not run.recipe.exists() or run.machine.exists() or not (recipe_path and recipe_path.exists()):
        return
    if recipe_path.samefile(run.recipe):
        raise WriteError(
            f"--out {root}: its recipe.yaml is the recipe itself, and would be replaced; give another --out"
        )
