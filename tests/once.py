"""Make what many tests read once for a whole run of the tests, for both processes of it; it is only read afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_FOLDER = "made-once"
_roots: list[Path] = []


def open_store(factory: pytest.TempPathFactory) -> None:
    """Set the folder of all that is made once: inside the folder that the processes of this run have in common."""
    base = factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    _roots[:] = [(base.parent if is_worker else base) / _FOLDER]


def make_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name`, which `make` fills if no process of this run has filled it before.

    A test that changes a file must copy the folder first.
    """
    root = _roots[0] if _roots else Path(tempfile.mkdtemp())
    folder, done = root / name, root / f"{name}.done"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
