"""Law of files that may not be read: each reader says so in one sentence, and calls none of them damaged."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lxcompress.bitmask import read_masks
from lxcompress.data.files import read_json
from lxcompress.data.files import read_text as read_data
from lxcompress.data.regions.hdf5 import open_hdf5
from lxcompress.data.regions.store import FEATURES, IDS, open_store
from lxcompress.data.regions.tsv import open_tsv
from lxcompress.data.tokens import read_vocabulary
from lxcompress.errors import DataError, LxError, unreadable
from lxcompress.models.checkpoints import load_weights
from lxcompress.recipe import load_recipe
from lxcompress.records import Dense, read_record
from lxcompress.tickets import load_mask
from tests.data.regions.pictures import pictures, row, write_tsv

READERS: dict[str, Callable[[Path], object]] = {
    "record": lambda path: read_record(path, Dense),
    "recipe": load_recipe,
    "data text": lambda path: read_data(path, remedy="give another"),
    "data JSON": lambda path: read_json(path, remedy="give another"),
    "TSV": open_tsv,
    "HDF5": open_hdf5,
    "vocabulary": read_vocabulary,
    "mask": load_mask,
    "weights": load_weights,
    "bitmask": read_masks,
}


def make(kind: str, path: Path) -> None:
    path.mkdir() if kind == "folder" else path.symlink_to(path.name)


@pytest.mark.parametrize("kind", ["folder", "loop"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_not_called_damaged(name, kind, tmp_path) -> None:
    path = tmp_path / "input"
    make(kind, path)
    with pytest.raises((LxError, OSError)) as caught:
        READERS[name](path)
    assert "damaged" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["folder", "loop"])
@pytest.mark.parametrize("name", [FEATURES, IDS])
def test_a_file_of_a_store_that_is_none_is_not_called_damaged(name, kind, tmp_path) -> None:
    from lxcompress.data.regions.prepare import prepare_store

    prepare_store([write_tsv(tmp_path / "a.tsv", list(map(row, pictures(3))))], tmp_path / "store", objects=6)
    (tmp_path / "store" / name).unlink()
    make(kind, tmp_path / "store" / name)
    with pytest.raises(DataError) as caught:
        open_store(tmp_path / "store")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.EIO, errno.ELOOP])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda number: OSError(number, os.strerror(number)),
        lambda number: RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})"),
        lambda number: OSError(f"Unable to open file (errno = {number}, error message = '{os.strerror(number)}')"),
    ],
)
def test_the_system_s_number_is_found_in_any_wrapping(wrap, number) -> None:
    found = unreadable("x", wrap(number), DataError)
    assert isinstance(found, DataError)
    assert str(found) == f"x: cannot be read ({os.strerror(number)}); check the path and its permissions"
    assert unreadable("x", ValueError("a bad header"), DataError) is None
    assert unreadable("x", OSError(errno.ENOENT, "no such file"), DataError) is None
