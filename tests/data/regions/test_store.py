"""Laws of the store: an image is found by its id or its number, opening reads little, and damage is named."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lxcompress.data.problems import Problems
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import BOXES, FEATURES, IDS, OBJECTS, RECORD, SourceFile, StoreRecord, open_store
from lxcompress.data.regions.verify import verify_store
from lxcompress.data.regions.write import npy_header
from lxcompress.errors import DataError
from lxcompress.rundir import write_record
from tests.data.regions.pictures import pictures, row, write_tsv

COCO = 123_287
"""Images of COCO's training and validation sets of 2014."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A store of 9 images."""
    folder = tmp_path_factory.mktemp("made")
    prepare_store([write_tsv(folder / "a.tsv", list(map(row, pictures(9))))], folder / "store", objects=5)
    return folder / "store"


@pytest.fixture
def store(made, tmp_path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def bare_store(folder: Path, ids: list[str]) -> Path:
    """A store with these ids, one region and one feature each."""
    folder.mkdir()
    count = len(ids)
    for name, kind, shape in (
        (FEATURES, "<f2", (count, 1, 1)),
        (BOXES, "<f4", (count, 1, 4)),
        (OBJECTS, "<i4", (count,)),
    ):
        (folder / name).write_bytes(npy_header(shape, kind) + np.ones(shape, kind).tobytes())
    (folder / IDS).write_text("".join(f"{image}\n" for image in ids), encoding="utf-8")
    source = SourceFile(name="made.tsv", size_bytes=1)
    record = StoreRecord(images=count, objects=1, features=1, sources=[source], files={}, largest_feature=1, skipped=0)
    write_record(folder / RECORD, record)
    return folder


def test_numpy_alone_opens_the_arrays(made) -> None:
    shapes = {name: np.load(made / name, mmap_mode="r").shape for name in (FEATURES, BOXES, OBJECTS)}
    assert shapes == {FEATURES: (9, 5, 12), BOXES: (9, 5, 4), OBJECTS: (9,)}


def test_arrays_become_tensors_over_the_same_map(made) -> None:
    store = open_store(made)
    for array in (store.features, store.boxes, store.objects):
        assert torch.from_numpy(array).data_ptr() == array.ctypes.data


def test_writing_to_an_open_store_leaves_its_files_as_they_are(made) -> None:
    store = open_store(made)
    store.boxes[:] = 7
    verify_store(made)


def test_an_image_is_found_by_its_id_and_else_by_its_number(tmp_path) -> None:
    ids = ["COCO_train2014_000000000042", "43", "n44", "dev-7-0-img1", "COCO_val2014_000000000046", "x_46"]
    store = open_store(bare_store(tmp_path / "store", ids))
    assert [store.row(name) for name in ids] == list(range(6))
    assert store.rows(["42", "43", "COCO_train2014_000000000043", "000043"]).tolist() == [0, 1, 1, 1]
    assert store.rows(ids[::-1]).dtype == np.int64
    for name in ("44", "1", "46", "45", "", "dev-7-0-img2", "9" * 5000):
        with pytest.raises(KeyError):
            store.row(name)


def test_all_of_coco_opens_in_well_under_a_second(tmp_path) -> None:
    bare_store(tmp_path / "store", [f"COCO_train2014_{number:012d}" for number in range(COCO)])
    started = time.perf_counter()
    store = open_store(tmp_path / "store")
    assert time.perf_counter() - started < 0.5
    assert store.rows(map(str, range(COCO))).tolist() == list(range(COCO))


@pytest.mark.parametrize("name", [FEATURES, BOXES, OBJECTS, IDS])
def test_a_changed_bit_is_found_and_its_file_named(store, name) -> None:
    path = store / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{name}: was changed after it was written .its checksum differs.; delete"):
        verify_store(store)


@pytest.mark.parametrize("name", [FEATURES, BOXES, OBJECTS, IDS])
@pytest.mark.parametrize("damage", ["shorter", "longer", "missing", "empty"])
def test_a_file_of_another_length_is_named(store, name, damage) -> None:
    path = store / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"shorter": data[:-60], "longer": data + data[-60:], "empty": b""}[damage])
    with pytest.raises(DataError, match=name) as caught:
        verify_store(store)
    assert "\n" not in str(caught.value)


def test_an_array_of_another_shape_or_type_is_named(store) -> None:
    np.save(store / FEATURES, np.zeros((9, 5, 11), np.float16))
    with pytest.raises(DataError, match=r"holds float16 \[9, 5, 11\], but store.json has float16 \[9, 5, 12\]"):
        open_store(store)
    np.save(store / FEATURES, np.zeros((9, 5, 12), np.float32))
    with pytest.raises(DataError, match=r"holds float32"):
        open_store(store)


def test_pickled_objects_are_never_loaded(store) -> None:
    np.save(store / OBJECTS, np.array([{}] * 9), allow_pickle=True)
    with pytest.raises(DataError, match=OBJECTS):
        open_store(store)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (BOXES, 1.5, "a box outside 0-1"),
        (BOXES, np.nan, "a box outside 0-1"),
        (OBJECTS, 6, "more than 5"),
        (OBJECTS, 0, "fewer than 1"),
    ],
)
def test_values_out_of_range_are_found_though_the_checksum_agrees(store, name, value, reason) -> None:
    array = np.load(store / name)
    array.flat[3] = value
    np.save(store / name, array)
    _trust(store, name)
    with pytest.raises(DataError, match=reason):
        verify_store(store)


def test_an_id_that_stands_twice_is_found(store) -> None:
    ids = (store / IDS).read_text().split("\n")
    ids[1] = ids[0]
    (store / IDS).write_text("\n".join(ids))
    _trust(store, IDS)
    with pytest.raises(DataError, match=r"has id \S+ twice"):
        verify_store(store)


def test_what_is_no_store_says_how_to_make_one(tmp_path) -> None:
    with pytest.raises(DataError, match="make one with: lxcompress data prepare SOURCE --out"):
        open_store(tmp_path)
    (tmp_path / "store.part").mkdir()
    with pytest.raises(DataError, match="its conversion is not finished"):
        open_store(tmp_path / "store")


def test_progress_reaches_the_end(made) -> None:
    told: list[tuple[str, int, int]] = []
    verify_store(made, Problems.strict(lambda *what: told.append(what)))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    _, done, total = told[-1]
    assert 0 <= total - done <= 3 * 128  # the headers are not part of a checksum


def _trust(store: Path, name: str) -> None:
    """Has store.json name the checksum that the file has now."""
    import hashlib
    import json

    record = json.loads((store / RECORD).read_text())
    data = (store / name).read_bytes()
    sha = hashlib.sha256(data[128:] if name.endswith(".npy") else data).hexdigest()
    record["files"][name] = {"size_bytes": len(data), "sha256": sha}
    record.pop("seal", None)  # as an earlier version wrote it
    (store / RECORD).write_text(json.dumps(record))
