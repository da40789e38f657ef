"""Laws of bad rows: each is told by source, line and image; none is dropped in silence, and the others are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import BOXES, FEATURES, IDS, OBJECTS, open_store, read_store_record
from lxcompress.data.regions.verify import verify_store
from lxcompress.errors import DataError
from tests.data.regions.pictures import Picture, pictures, row, write_hdf5, write_npz, write_tsv

DATA = (FEATURES, BOXES, OBJECTS, IDS)
BAD = 17
"""The line that is damaged, of 30."""


def with_value(value: float) -> Callable[[Picture], list[str]]:
    def change(picture: Picture) -> list[str]:
        features = picture.features.copy()
        features[-1, -1] = value
        return row(picture, features=features)

    return change


def with_box(*box: float) -> Callable[[Picture], list[str]]:
    """`box` in units of the image's size."""

    def change(picture: Picture) -> list[str]:
        boxes = picture.boxes.copy()
        boxes[-1] = np.asarray(box) * ([picture.width, picture.height] * 2)
        return row(picture, boxes=boxes)

    return change


def packed(name: str, change: Callable[[str], str]) -> Callable[[Picture], list[str]]:
    """Changes the base64 of a column."""
    place = {"boxes": 8, "features": 9}[name]

    def damage(picture: Picture) -> list[str]:
        columns = row(picture)
        columns[place] = change(columns[place])
        return columns

    return damage


DAMAGES: dict[str, tuple[Callable[[Picture], list[str]], str]] = {
    "too few columns": (lambda picture: row(picture)[:-1], "it has 9 columns, expected 10"),
    "too many columns": (lambda picture: [*row(picture), "x"], "it has 11 columns, expected 10"),
    "no column": (lambda picture: [picture.image], "it has 1 column, expected 10"),
    "a character that is no base64": (packed("features", lambda text: text[:99] + "*" + text[100:]), "not base64"),
    "a character lost": (packed("features", lambda text: text[:99] + text[100:]), "its features are not base64"),
    "features cut": (packed("features", lambda text: text[: len(text) // 8 * 4]), "features"),
    "features cut at a region": (lambda picture: row(picture, features=picture.features[:-1]), "features"),
    "no features": (lambda picture: row(picture, features=""), "its features are 0 bytes"),
    "other features": (
        lambda picture: row(picture, features=picture.features[:, 1:]),
        "has 11 features, but those of the",
    ),
    "boxes cut": (packed("boxes", lambda text: text[:-8]), "its boxes are"),
    "boxes of three": (lambda picture: row(picture, boxes=picture.boxes[:, 1:]), "its boxes hold 3 numbers each"),
    "boxes no base64": (packed("boxes", lambda text: "?" + text[1:]), "its boxes are not base64"),
    "no count": (lambda picture: row(picture, num_boxes=""), "its number of regions is ''"),
    "a count of 0": (lambda picture: row(picture, num_boxes=0), "its number of regions is '0'"),
    "a count below 0": (lambda picture: row(picture, num_boxes=-4), "its number of regions is '-4'"),
    "a count of 10**12": (lambda picture: row(picture, num_boxes=10**12), "its boxes are"),
    "a count of 10**400": (lambda picture: row(picture, num_boxes=10**400), "its number of regions is '1000"),
    "half a region": (lambda picture: row(picture, num_boxes="2.5"), "its number of regions is '2.5'"),
    "a count in words": (lambda picture: row(picture, num_boxes="two"), "its number of regions is 'two'"),
    "another count": (lambda picture: row(picture, num_boxes=7), "are"),
    "no width": (lambda picture: row(picture, img_w=0), "pixels large, expected two positive numbers"),
    "a height below 0": (lambda picture: row(picture, img_h=-3), "pixels large"),
    "a height of 10**30": (lambda picture: row(picture, img_h=10**30), "pixels large"),
    "NaN": (with_value(np.nan), "NaN or infinite"),
    "infinity": (with_value(np.inf), "NaN or infinite"),
    "minus infinity": (with_value(-np.inf), "NaN or infinite"),
    "more than float16": (with_value(-65520), "its features reach 65520, more than float16 holds (65504)"),
    "a box left of the image": (with_box(-2e-5, 0, 1, 1), "a box has the coordinate -2e-05"),
    "a box below the image": (with_box(0, 0, 1, 1.001), "a box has the coordinate 1.001"),
    "a box of NaN": (with_box(0, 0, 1, np.nan), "a box has the coordinate nan"),
    "a box of width and height": (with_box(0.6, 0.6, 0.2, 0.2), "a box ends before it begins, expected x1 y1 x2 y2"),
    "no id": (lambda picture: row(picture, img_id=""), "its image id is empty"),
    "an id of two lines": (lambda picture: row(picture, img_id="a\x85b"), "its image id is not a line of text"),
    "an endless id": (lambda picture: row(picture, img_id="a" * 5000), "its image id is not a line of text"),
}


@pytest.fixture
def made() -> list[Picture]:
    return pictures(30, regions=(2, 5))


def damaged_file(path: Path, made: list[Picture], damage: Callable[[Picture], list[str]]) -> Path:
    rows = list(map(row, made))
    rows[BAD - 1] = damage(made[BAD - 1])
    return write_tsv(path, rows)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_row_stops_the_conversion_and_is_told_by_line_and_image(tmp_path, made, name) -> None:
    damage, reason = DAMAGES[name]
    path = damaged_file(tmp_path / "a.tsv", made, damage)
    with pytest.raises(DataError) as caught:
        prepare_store([path], tmp_path / "store", objects=5)
    said = str(caught.value)
    assert said.startswith(f"{path}: line {BAD} (image {damage(made[BAD - 1])[0][:60]!r}): ")
    assert reason in said
    assert "--skip-bad" in said
    assert "\n" not in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", DAMAGES)
def test_skipped_rows_are_listed_and_the_others_are_as_without_them(tmp_path, made, name) -> None:
    damage, reason = DAMAGES[name]
    out = tmp_path / "store"
    prepare_store([damaged_file(tmp_path / "a.tsv", made, damage)], out, objects=5, skip_bad=True)
    verify_store(out)
    good = [row(picture) for index, picture in enumerate(made, 1) if index != BAD]
    prepare_store([write_tsv(tmp_path / "good.tsv", good)], tmp_path / "good", objects=5)
    for each in DATA:
        assert (out / each).read_bytes() == (tmp_path / "good" / each).read_bytes()
    (entry,) = json.loads((out / "bad_rows.json").read_text())
    assert (entry["source"], entry["line"]) == ("a.tsv", BAD)
    assert reason in entry["reason"]
    assert read_store_record(out).skipped == 1
    assert not (tmp_path / "good" / "bad_rows.json").exists()


def test_the_same_image_twice_is_a_bad_row_across_sources_too(tmp_path, made) -> None:
    paths = [write_tsv(tmp_path / f"{name}.tsv", list(map(row, made[:9]))) for name in "ab"]
    with pytest.raises(
        DataError, match=r"b.tsv: line 1 .image .COCO_train2014_000000000001..: .* has the same image id"
    ):
        prepare_store(paths, tmp_path / "store", objects=5)
    prepare_store(paths, tmp_path / "store", objects=5, skip_bad=True)
    entries = json.loads((tmp_path / "store" / "bad_rows.json").read_text())
    assert [(entry["source"], entry["line"]) for entry in entries] == [("b.tsv", line) for line in range(1, 10)]
    assert len(open_store(tmp_path / "store")) == 9


def test_after_a_bad_row_was_mended_the_same_command_goes_on(tmp_path, made) -> None:
    path = damaged_file(tmp_path / "a.tsv", made, with_value(np.nan))
    with pytest.raises(DataError, match="line 17"):
        prepare_store([path], tmp_path / "store", objects=5)
    write_tsv(path, list(map(row, made)))
    assert prepare_store([path], tmp_path / "store", objects=5).kept_before == BAD - 1
    prepare_store([path], tmp_path / "whole", objects=5)
    _assert_same(tmp_path / "store", tmp_path / "whole")


def test_after_a_bad_row_skipping_goes_on_too(tmp_path, made) -> None:
    path = damaged_file(tmp_path / "a.tsv", made, with_value(np.nan))
    prepare_store([path], tmp_path / "at-once", objects=5, skip_bad=True)
    with pytest.raises(DataError):
        prepare_store([path], tmp_path / "store", objects=5)
    assert prepare_store([path], tmp_path / "store", objects=5, skip_bad=True).kept_before == BAD - 1
    _assert_same(tmp_path / "store", tmp_path / "at-once")


def test_a_file_cut_off_in_its_last_row_says_so(tmp_path, made) -> None:
    path = write_tsv(tmp_path / "a.tsv", list(map(row, made)))
    data = path.read_bytes()
    for cut in (3, 30, 90, 300):
        path.write_bytes(data[:-cut])
        with pytest.raises(DataError, match=r"line 30 .image 'COCO_train2014_000000000030'.: it"):
            prepare_store([path], tmp_path / f"store-{cut}", objects=5)


@pytest.mark.parametrize("kind", ["tsv", "npz", "hdf5"])
def test_more_regions_than_there_is_room_for_are_an_error_even_when_skipping(tmp_path, kind) -> None:
    made = pictures(5, regions=(4, 4))
    made[3] = pictures(9, seed=9, regions=(8, 8))[3]
    if kind == "tsv":
        path = write_tsv(tmp_path / "a.tsv", list(map(row, made)))
    elif kind == "npz":
        path = write_npz(tmp_path / "npz", made, kind="mcan")
    else:
        path = write_hdf5(tmp_path / "a.h5", made, kind="groups")
    with pytest.raises(DataError, match=r"has 8 regions, more than --objects 5, .* --objects 100"):
        prepare_store([path], tmp_path / "store", objects=5, skip_bad=True)
    assert not (tmp_path / "store").exists()


def _break_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        del file["COCO_train2014_000000000003/boxes"]
        file["COCO_train2014_000000000005/img_w"][()] = 0


def test_bad_images_of_hdf5_are_told_by_row_and_image(tmp_path, made) -> None:
    path = write_hdf5(tmp_path / "a.h5", made[:8], kind="groups")
    _break_hdf5(path)
    with pytest.raises(DataError, match=r"a.h5: row 3 .image 'COCO_train2014_000000000003'.: it cannot be read"):
        prepare_store([path], tmp_path / "store", objects=5)
    prepare_store([path], tmp_path / "store", objects=5, skip_bad=True)
    entries = json.loads((tmp_path / "store" / "bad_rows.json").read_text())
    assert [entry["row"] for entry in entries] == [3, 5]
    assert len(open_store(tmp_path / "store")) == 6


def test_bad_files_of_a_folder_are_told_by_place_and_image(tmp_path, made) -> None:
    folder = write_npz(tmp_path / "npz", made[:8], kind="mcan")
    third, fifth, sixth, eighth = (folder / f"{made[place - 1].image}.jpg.npz" for place in (3, 5, 6, 8))
    third.write_bytes(third.read_bytes()[:200])
    np.savez(fifth, x=np.zeros((4, 3)))
    np.savez(sixth, x=np.array([{}], dtype=object), bbox=np.zeros((4, 4)), image_w=5, image_h=5)
    eighth.write_bytes(b"no zip at all")
    with pytest.raises(
        DataError, match=r"file 3 .image 'COCO_train2014_000000000003'.: it is damaged or not an .npz file"
    ):
        prepare_store([folder], tmp_path / "store", objects=5)
    prepare_store([folder], tmp_path / "store", objects=5, skip_bad=True)
    entries = json.loads((tmp_path / "store" / "bad_rows.json").read_text())
    assert [entry["file"] for entry in entries] == [3, 5, 6, 8]
    assert "it has the arrays x, expected the arrays x, bbox" in entries[1]["reason"]
    assert 'array x cannot be read (it holds "|O", expected numbers' in entries[2]["reason"]


def _assert_same(one: Path, two: Path) -> None:
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }
