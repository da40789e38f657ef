"""Laws of sources that differ from what is published: boxes that are 0-1 already, ids with endings, odd columns."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import numpy as np
import pytest

from lxcompress.data.check import check_data, check_store
from lxcompress.data.images import find_images
from lxcompress.data.problems import Problems
from lxcompress.data.questions import Question, SplitQuestions
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.rows import ReadOptions, strip_extension
from lxcompress.data.regions.store import RegionStore, find_box_doubt, open_store
from lxcompress.errors import DataError
from lxcompress.recipe import GqaData
from tests.complain import complain
from tests.data.regions.pictures import Picture, pictures, row, write_hdf5, write_npz, write_tsv

PUBLISHED, NORMALISED = ReadOptions(), ReadOptions(boxes="normalised")
SOURCES = ("tsv", "npz mcan", "hdf5 groups", "hdf5 vilbert", "hdf5 counting", "hdf5 gqa")


def write(folder: Path, source: str, made: list[Picture]) -> Path:
    name, _, kind = source.partition(" ")
    if name == "tsv":
        return write_tsv(folder / "a.tsv", list(map(row, made)))
    if name == "npz":
        return write_npz(folder / "npz", made, kind=kind)
    return write_hdf5(folder / ("gqa_objects_3.h5" if kind == "gqa" else "a.h5"), made, kind=kind)


def convert(folder: Path, path: Path, reading: ReadOptions = PUBLISHED) -> RegionStore:
    prepare_store([path], folder / "store", objects=5, reading=reading)
    return open_store(folder / "store")


@pytest.fixture
def made() -> list[Picture]:
    return pictures(6, regions=(3, 3))


@pytest.mark.parametrize("source", SOURCES)
def test_boxes_that_are_normalised_are_doubted_unless_it_is_said(source, made, tmp_path) -> None:
    small = [
        Picture(picture.image, picture.width, picture.height, picture.features, picture.scaled) for picture in made
    ]
    (tmp_path / "said").mkdir()
    (tmp_path / "pixels").mkdir()
    assert find_box_doubt(convert(tmp_path / "pixels", write(tmp_path / "pixels", source, made)).boxes) is None
    path = write(tmp_path, source, small)
    assert "--boxes normalised" in find_box_doubt(convert(tmp_path, path).boxes)
    assert "--boxes normalised" in check_store(tmp_path / "store").findings[0].sentence
    store = convert(tmp_path / "said", path, NORMALISED)
    assert find_box_doubt(store.boxes) is None
    np.testing.assert_allclose(store.boxes[:, :3], [picture.scaled for picture in made], atol=1e-6)


def test_boxes_in_pixels_that_are_said_to_be_normalised_are_refused(made, tmp_path) -> None:
    complain(lambda: convert(tmp_path, write(tmp_path, "tsv", made), NORMALISED), "expected 0 to 1", kind=DataError)


def test_a_store_of_another_reading_is_not_taken_for_this_one(made, tmp_path) -> None:
    path = write(tmp_path, "tsv", made)
    convert(tmp_path, path)
    complain(lambda: convert(tmp_path, path, ReadOptions(strip_extension=True)), "was made from", kind=DataError)


def find_rows(questions: list[Question], store: RegionStore) -> list[list[int]]:
    split = SplitQuestions("train", questions, (Path("q.json"),))
    return find_images(questions, store, split, Problems.strict())


def asked(*images: str) -> list[Question]:
    return [Question(number, (image,), "?", {}, "other") for number, image in enumerate(images)]


def test_ids_with_an_ending_in_the_features_alone_are_told_with_both_and_mended_by_an_option(made, tmp_path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [row(picture, img_id=f"{picture.image}.JPG".lower()) for picture in made])
    questions = asked(*(picture.image.lower() for picture in made))
    store = convert(tmp_path, path)
    name = made[0].image.lower()
    said = complain(lambda: find_rows(questions, store), kind=DataError)
    assert f'"{name}"' in said
    assert f'"{name}.jpg"' in said
    assert "--strip-extension" in said
    (tmp_path / "stripped").mkdir()
    store = convert(tmp_path / "stripped", path, ReadOptions(strip_extension=True))
    assert find_rows(questions, store) == [[row] for row in range(6)]


def test_ids_with_an_ending_in_the_questions_alone_are_found(made, tmp_path) -> None:
    store = convert(tmp_path, write(tmp_path, "tsv", made))
    questions = asked(*(f"{picture.image}.jpg" for picture in made))
    assert find_rows(questions, store) == [[row] for row in range(6)]


def write_questions(folder: Path, images: list[str]) -> GqaData:
    for name, start in (("train", 0), ("valid", 100)):
        document = {
            f"{start + n}": {"imageId": image, "question": "is it red?", "answer": ("yes", "no")[n % 2]}
            for n, image in enumerate(images)
        }
        (folder / f"{name}.json").write_text(json.dumps(document))
    return GqaData(
        kind="gqa",
        train=folder / "train.json",
        valid=folder / "valid.json",
        features=folder / "store",
    )


@pytest.mark.parametrize("is_stripped", [False, True])
def test_ids_with_an_ending_in_the_questions_alone_are_told_with_both(made, is_stripped, tmp_path) -> None:
    lines = [row(picture, img_id=f"{picture.image}.png" if is_stripped else picture.image) for picture in made]
    convert(tmp_path, write_tsv(tmp_path / "a.tsv", lines), ReadOptions(strip_extension=is_stripped))
    check = check_data(write_questions(tmp_path, [f"{picture.image}.jpg" for picture in made]))
    said = [finding for finding in check.findings if finding.where.endswith("data.train")]
    assert [sentence.severity for sentence in said] == ["warning"]
    assert f'"{made[0].image}.jpg" is taken for "{made[0].image}"' in said[0].sentence
    assert not check.errors


def test_ids_with_two_endings_are_told_with_both(made, tmp_path) -> None:
    lines = [row(picture, img_id=f"{picture.image}.png") for picture in made]
    store = convert(tmp_path, write_tsv(tmp_path / "a.tsv", lines))
    said = complain(lambda: find_rows(asked(f"{made[0].image}.jpg"), store), kind=DataError)
    assert f'"{made[0].image}.jpg" and the features "{made[0].image}.png"' in said
    assert "--strip-extension" in said


def test_boxes_of_one_source_of_many_are_doubted(made, tmp_path) -> None:
    boxes = np.full((100, 3, 4), 0.9, dtype=np.float32)
    assert find_box_doubt(boxes) is None
    boxes[:5] = 0.01  # few: a small thing in a corner
    assert find_box_doubt(boxes) is None
    boxes[:50] = 0.01
    assert "50 of 100 images" in find_box_doubt(boxes)


@pytest.mark.parametrize(
    ("image", "stem"),
    [("a.jpg", "a"), ("a.b.PNG", "a.b"), ("a", "a"), (".jpg", ".jpg"), ("a.gif", "a.gif"), ("a.", "a.")],
)
def test_an_ending_is_that_of_an_image_file(image, stem) -> None:
    assert strip_extension(image) == stem


@pytest.mark.parametrize(
    "change",
    [
        lambda data: codecs.BOM_UTF8 + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: codecs.BOM_UTF8 + data.replace(b"\n", b"\r\n"),
    ],
    ids=["mark", "crlf", "both"],
)
def test_a_mark_or_other_line_ends_change_nothing(change, made, tmp_path) -> None:
    path = write(tmp_path, "tsv", made)
    path.write_bytes(change(path.read_bytes()))
    assert convert(tmp_path, path).ids == tuple(picture.image for picture in made)


@pytest.mark.parametrize("quote", ["b'{}'", 'b"{}"'])
def test_columns_written_as_pythons_bytes_are_read(quote, made, tmp_path) -> None:
    (tmp_path / "plain").mkdir()
    plain = convert(tmp_path / "plain", write(tmp_path / "plain", "tsv", made))
    path = write_tsv(tmp_path / "a.tsv", [[quote.format(column) for column in row(picture)] for picture in made])
    store = convert(tmp_path, path)
    assert store.ids == plain.ids
    assert np.array_equal(store.features, plain.features)
    assert np.array_equal(store.boxes, plain.boxes)


def test_sizes_and_counts_written_as_floats_are_read(made, tmp_path) -> None:
    rows = [row(picture, img_w=f"{picture.width}.0", img_h=f"{picture.height}.00", num_boxes="3.") for picture in made]
    assert len(convert(tmp_path, write_tsv(tmp_path / "a.tsv", rows))) == 6


def test_a_size_that_is_no_whole_number_is_refused(made, tmp_path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [row(made[0], img_w="200.5")])
    complain(lambda: convert(tmp_path, path), "'200.5'", kind=DataError)


@pytest.mark.parametrize("image", ["PK1234", "PK", "PK\x05x"])
def test_a_first_id_that_begins_as_a_zip_does_is_an_id(image, made, tmp_path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [row(made[0], img_id=image), *map(row, made[1:])])
    if image.isprintable():
        assert convert(tmp_path, path).ids[0] == image
    else:
        complain(lambda: convert(tmp_path, path), "not a line of text", kind=DataError)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_named(encoding, made, tmp_path) -> None:
    path = write(tmp_path, "tsv", made)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    complain(lambda: convert(tmp_path, path), encoding[:6].upper(), "iconv", kind=DataError)
