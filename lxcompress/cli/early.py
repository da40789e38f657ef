"""Early checks: names and paths of a command line, before torch, transformers or onnx are imported."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from lxcompress.errors import ExportError, LxError, ModelError, PruneError
from lxcompress.writing import is_vacant

WANTED = "give a transformers folder (config.json and model.safetensors), a ticket, a .pth file, or mini"
_HUB_NAME = re.compile(r"(hub:)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FOLDERS = {"run", "runs", "ticket", "tickets", "twins", "seeds", "artifacts", "model", "models", "out", "data", "tmp"}


def check_model(source: str) -> None:
    """Raise ModelError for a path of a model that is not there; what may be a name on the hub passes."""
    path = Path(source)
    if source == "mini" or is_there(path):
        return
    is_local = path.parts[:1] and (path.parts[0] in _FOLDERS or is_there(Path(path.parts[0])))
    if _HUB_NAME.fullmatch(source) and (source.startswith("hub:") or not is_local) and path.suffix != ".pth":
        return
    what = "file" if path.suffix == ".pth" else "folder"
    raise ModelError(f"{source}: no such {what}{near_path(path)}; {WANTED}")


def check_ticket(path: Path) -> None:
    """Raise ExportError for a ticket or model to export that is not there, or is a file."""
    if path.is_dir():
        return
    if is_there(path):
        raise ExportError(f"{path}: is a file, expected a folder; give a ticket, or a transformers folder")
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


def is_there(path: Path) -> bool:
    """Return whether something is at `path`; a name that no file can have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def near_path(path: Path) -> str:
    """Return " (did you mean PATH?)" where the first part of a path that is missing is like one that is there."""
    parts = path.parts
    for depth, name in enumerate(parts):
        parent = Path(*parts[:depth])
        if not is_there(parent / name):
            names = [each.name for each in parent.iterdir()] if parent.is_dir() else []
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            if not near:
                return ""
            whole = Path(parent, near[0], *parts[depth + 1 :])
            return f" (did you mean {whole if is_there(whole) else parent / near[0]}?)"
    return ""
