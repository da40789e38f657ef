"""The temporary folder of a study on a node that does not have the run folder.

Every process that uses such a folder leaves its name in it. So the folders that a killed driver left behind are known,
and the next study on the node removes them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lxcompress.claims import Holder, describe_this_process, read_holder, this_system, write_holder
from lxcompress.text import read_text

PREFIX = "lxcompress-study-"
"""The name of the folder begins so; it ends with the token of the driver."""
USERS = ".users"
"""The folder in it that has one file for each process which uses it."""


def find_node_folder(driver: Holder) -> Path:
    """Return the path of the folder on this node of the study of `driver`."""
    return Path(tempfile.gettempdir()) / (PREFIX + driver.token)


def enter_node_folder(folder: Path, driver: Holder) -> None:
    """Make the folder and note that this process uses it; remove the folders of studies that ended.

    The driver also uses it, if it is a process of this node.
    """
    users = folder / USERS
    with _locked(folder.parent):
        users.mkdir(parents=True, exist_ok=True)
        holders = [describe_this_process(), *([driver] if driver.system == this_system() else [])]
        for holder in holders:
            (users / holder.token).write_text(write_holder(holder), encoding="ascii")
        _remove_stale(folder.parent)


def remove_node_folder(folder: Path) -> None:
    """Remove the folder of a study that ends, and those of studies that ended."""
    with _locked(folder.parent):
        shutil.rmtree(folder, ignore_errors=True)
        _remove_stale(folder.parent)


def list_stale(temporary: Path) -> list[Path]:
    """Return the folders in `temporary` whose processes have all ended."""
    return sorted(folder for folder in temporary.glob(f"{PREFIX}*") if not _is_used(folder))


def _is_used(folder: Path) -> bool:
    """Return whether a process that uses the folder may still run."""
    try:
        holders = [_read_user(file) for file in (folder / USERS).iterdir()]
    except FileNotFoundError:  # its removal was interrupted
        return False
    except OSError:  # it belongs to another user
        return True
    return any(holder is not None and not holder.is_dead for holder in holders)


def _read_user(file: Path) -> Holder | None:
    """Return the process that wrote this file; None if it was killed before the file was whole."""
    try:
        return read_holder(read_text(file))
    except ValueError:
        return None


def _remove_stale(temporary: Path) -> None:
    """Remove the folders of studies that ended; those of other users of the machine may stay."""
    for folder in list_stale(temporary):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(temporary: Path) -> Iterator[None]:
    """Let one process of this user at a time make or remove such folders."""
    user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
    with FileLock(temporary / f"lxcompress-{user}.lock"):
        yield
