"""Laws of conversion: what a source says is what the store holds, whoever published it and however it is packed."""

from __future__ import annotations

import base64
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lxcompress.data.regions.npz import open_npz
from lxcompress.data.regions.prepare import open_source, prepare_store
from lxcompress.data.regions.store import BOXES, FEATURES, IDS, OBJECTS, RegionStore, open_store
from lxcompress.data.regions.tsv import LXMERT
from lxcompress.data.regions.verify import verify_store
from lxcompress.errors import DataError
from tests.data.regions.pictures import (
    Picture,
    bottom_up_row,
    pictures,
    real_file,
    row,
    write_hdf5,
    write_npz,
    write_tsv,
)

DATA = (FEATURES, BOXES, OBJECTS, IDS)


def convert(folder: Path, *sources: Path, objects: int = 6) -> RegionStore:
    out = folder / f"store-{len(list(folder.iterdir()))}"
    prepare_store(sources, out, objects=objects)
    verify_store(out)
    return open_store(out)


def data(store: RegionStore) -> list[bytes]:
    return [(store.path / name).read_bytes() for name in DATA]


def assert_holds(store: RegionStore, made: Sequence[Picture], *, atol: float = 0) -> None:
    """Features rounded to float16, boxes 0-1, and nothing but zeros beyond them."""
    assert len(store) == len(made)
    for index, picture in enumerate(made):
        count = len(picture.boxes)
        assert store.objects[index] == count
        assert np.array_equal(store.features[index, :count], picture.features.astype(np.float16))
        assert np.allclose(store.boxes[index, :count], picture.scaled, rtol=0, atol=atol)
        assert not store.features[index, count:].any()
        assert not store.boxes[index, count:].any()


@pytest.mark.parametrize(("seed", "features"), [(0, 1), (1, 12), (2, 2048), (3, 33001)])
def test_a_tsv_comes_back_rounded_to_float16(tmp_path, seed, features) -> None:
    made = pictures(7, seed=seed, features=features)
    store = convert(tmp_path, write_tsv(tmp_path / "a.tsv", [row(picture) for picture in made]))
    assert_holds(store, made)
    assert store.ids == tuple(picture.image for picture in made)


def test_more_images_than_a_piece_holds_keep_their_order(tmp_path) -> None:
    made = pictures(300, regions=(1, 6), features=2048)
    store = convert(tmp_path, write_tsv(tmp_path / "a.tsv", [row(picture) for picture in made]))
    assert_holds(store, made)
    assert store.ids == tuple(picture.image for picture in made)


def test_plain_gzip_and_zip_make_the_same_bytes(tmp_path) -> None:
    rows = [row(picture) for picture in pictures(40, features=700)]
    plain, *packed = (
        data(convert(tmp_path, write_tsv(tmp_path / name, rows))) for name in ("a.tsv", "a.tsv.gz", "a.zip")
    )
    assert packed == [plain, plain]


@pytest.mark.parametrize("end", ["\r\n", "\n\n", "\n\r\n"])
def test_line_ends_and_blank_lines_change_nothing(tmp_path, end) -> None:
    rows = [row(picture) for picture in pictures(5)]
    expected = data(convert(tmp_path, write_tsv(tmp_path / "a.tsv", rows)))
    assert data(convert(tmp_path, write_tsv(tmp_path / "b.tsv", rows, end=end))) == expected
    unended = tmp_path / "c.tsv"
    unended.write_bytes((tmp_path / "a.tsv").read_bytes().removesuffix(b"\n"))
    assert data(convert(tmp_path, unended)) == expected


def test_a_header_is_no_row(tmp_path) -> None:
    made = pictures(3)
    assert_holds(convert(tmp_path, write_tsv(tmp_path / "a.tsv", [LXMERT, *map(row, made)])), made)


def test_bottom_up_tsv_is_told_by_its_columns(tmp_path) -> None:
    made = pictures(9, regions=(1, 6))
    store = convert(tmp_path, write_tsv(tmp_path / "a.tsv", list(map(bottom_up_row, made)), end="\r\n"))
    assert_holds(store, made)
    assert store.ids == tuple(str(number + 1) for number in range(9))


def test_several_sources_make_one_store_in_their_order(tmp_path) -> None:
    made = pictures(30)
    train = write_tsv(tmp_path / "train.zip", list(map(row, made[:12])))
    valid = write_npz(tmp_path / "valid", made[12:20], kind="mcan")
    test = write_tsv(tmp_path / "test.tsv", list(map(row, made[20:])))
    store = convert(tmp_path, train, valid, test)
    assert_holds(store, made)
    assert store.ids == tuple(picture.image for picture in made)


@pytest.mark.parametrize("kind", ["mcan", "gqa", "uniter"])
def test_npz_folders_come_back(tmp_path, kind) -> None:
    made = pictures(11, seed=4)
    store = convert(tmp_path, write_npz(tmp_path / "npz", made, kind=kind))
    assert_holds(store, made)
    assert store.ids == tuple(picture.image for picture in made)


def test_many_workers_read_what_one_reads_in_the_same_order(tmp_path) -> None:
    folder = write_npz(tmp_path / "npz", pictures(60), kind="mcan")
    read = []
    for workers in (1, 7):
        with open_npz(folder, workers=workers).rows() as rows:
            read.append([(row.position, row.image, row.features.tobytes(), row.boxes.tobytes()) for row in rows])
    assert read[0] == read[1]
    assert len(read[0]) == 60


@pytest.mark.parametrize("kind", ["groups", "bottom-up", "ragged", "vilbert", "counting", "gqa"])
def test_hdf5_layouts_come_back(tmp_path, kind) -> None:
    regions = (4, 4) if kind in ("bottom-up", "counting") else (1, 6)
    made = pictures(13, seed=5, regions=regions)
    path = write_hdf5(tmp_path / "gqa_objects_3.h5", made, kind=kind)
    store = convert(tmp_path, path)
    assert_holds(store, made)
    numbers = range(1, 14)
    whole_names = kind == "groups"
    assert store.ids == tuple(f"COCO_train2014_{number:012d}" if whole_names else str(number) for number in numbers)


def test_boxes_that_leave_the_image_by_a_rounding_error_are_cut_at_its_edge(tmp_path) -> None:
    picture = pictures(1)[0]
    boxes = picture.boxes.copy()
    boxes[0] = np.asarray([-0.9e-5, -0.9e-5, 1 + 0.9e-5, 1 + 0.9e-5]) * ([picture.width, picture.height] * 2)
    store = convert(tmp_path, write_tsv(tmp_path / "a.tsv", [row(picture, boxes=boxes)]))
    assert store.boxes[0, 0].tolist() == [0, 0, 1, 1]
    boxes[0, 2] = picture.width * (1 + 2e-5)
    with pytest.raises(DataError, match=r"a box has the coordinate 1\.00002"):
        convert(tmp_path, write_tsv(tmp_path / "b.tsv", [row(picture, boxes=boxes)]))


def test_room_for_more_regions_adds_zeros_alone(tmp_path) -> None:
    made = pictures(5, regions=(6, 6))
    path = write_tsv(tmp_path / "a.tsv", list(map(row, made)))
    narrow, wide = convert(tmp_path, path, objects=6), convert(tmp_path, path, objects=100)
    assert np.array_equal(wide.features[:, :6], narrow.features)
    assert_holds(wide, made)


def test_the_published_rows_are_what_lxmert_reads(tmp_path) -> None:
    path = real_file()
    store = convert(tmp_path, path, objects=36)
    csv.field_size_limit(sys.maxsize)
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert store.ids == tuple(row[0] for row in rows)
    for index, columns in enumerate(rows):
        features, boxes = (np.frombuffer(base64.b64decode(columns[at]), np.float32).reshape(36, -1) for at in (9, 8))
        boxes = boxes.copy()
        boxes[:, (0, 2)] /= int(columns[2])
        boxes[:, (1, 3)] /= int(columns[1])
        assert np.array_equal(store.features[index], features.astype(np.float16))
        assert np.array_equal(store.boxes[index], boxes.clip(0, 1))
        assert store.row(str(int(columns[0][-12:]))) == index


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".zip"])
def test_the_number_of_images_is_known_about_before_they_are_read(tmp_path, suffix) -> None:
    rows = [LXMERT, *map(row, pictures(500, regions=(1, 10), features=64))]
    (source,) = open_source(write_tsv(tmp_path / f"a{suffix}", rows))
    assert source.about_images() == pytest.approx(500, rel=0.2)
