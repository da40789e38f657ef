"""Early checks: names and paths of a command line, before torch, transformers or onnx are imported."""

from __future__ import annotations

from pathlib import Path

from lxcompress.errors import ExportError, LxError, PruneError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.models.source import check_source, is_original, is_there, near_path
from lxcompress.writing import is_vacant


def check_model(source: str) -> None:
    """Raise ModelError for a model that is not there: a path, or a name on the hub, which is fetched now."""
    check_source(source)


def check_scored(source: str) -> None:
    """Raise ModelError for what `lxcompress eval` is to score and is not there: an artifact, a ticket or a model."""
    if not is_there(Path(source) / ARTIFACT_FILE):
        check_source(source)


def check_ticket(path: Path) -> None:
    """Raise LxError for a ticket or model to export that is not there, or is a file of another kind."""
    if is_there(path) and not path.is_dir() and not is_original(str(path)):
        raise ExportError(
            f"{path}: is a file, expected a folder or a .pth file; give a ticket, or a transformers folder"
        )
    check_model(str(path))


def check_empty(out: Path) -> None:
    """Raise PruneError for a folder to write to that holds something already."""
    if is_there(out) and (not out.is_dir() or not is_vacant(out)):
        raise PruneError(f"--out {out}: exists and is not an empty folder; give another --out, or remove it")


def check_paths(paths: list[Path], *, what: str, kind: type[LxError]) -> None:
    """Raise an error of that kind for the first of the paths that is not there; `what` says how one is made."""
    for path in paths:
        if not is_there(path):
            raise kind(f"{path}: no such folder{near_path(path)}; {what}")
