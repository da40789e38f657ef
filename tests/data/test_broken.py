"""Small files that once ended a reader in a traceback, a hang or a wrong answer, by name; each is one sentence now."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxcompress.data.clevr import read_questions, read_scenes
from lxcompress.data.files import read_json, read_labels
from lxcompress.data.predictions import format_predictions
from lxcompress.data.regions.hdf5 import open_hdf5
from lxcompress.data.regions.npy import read_npy_header
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import open_store
from lxcompress.data.vqa import read_vqa
from lxcompress.errors import DataError
from lxcompress.recipe import VqaData
from tests.complain import complain
from tests.data.regions.pictures import pictures, row, write_hdf5, write_tsv

MEGABYTE = 1 << 20


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED, data: bytes = b'["yes"]' * 50) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("a/labels.json", data)
    return bytearray(path.read_bytes())


def damaged(method: int) -> Callable[[Path], bytes]:
    def make(path: Path) -> bytes:
        data = zipped(path, method)
        start = 30 + len("a/labels.json")
        data[start : start + 12] = b"\xff" * 12
        return bytes(data)

    return make


def patched(path: Path, local: int, central: int, value: bytes) -> bytes:
    """A zip with `value` at an offset of its local header, and of its central one."""
    data = zipped(path)
    at = data.index(b"PK\x01\x02")
    data[local : local + len(value)] = value
    data[at + central : at + central + len(value)] = value
    return bytes(data)


def named_otherwise(path: Path) -> bytes:
    return patched(path, 6, 8, struct.pack("<H", 0x800)).replace(b"a/labels.json", b"a/\xffabels.json")


PACKED: dict[str, Callable[[Path], bytes]] = {
    "deflate": damaged(zipfile.ZIP_DEFLATED),
    "bzip2": damaged(zipfile.ZIP_BZIP2),
    "LZMA": damaged(zipfile.ZIP_LZMA),
    "deflate64": lambda path: patched(path, 8, 10, struct.pack("<H", 9)),
    "encrypted": lambda path: patched(path, 6, 8, struct.pack("<H", 1)),
    "name-not-utf-8": named_otherwise,
    "bomb": lambda path: bytes(zipped(path, data=b" " * (100 * MEGABYTE))),
    "bomb-by-bzip2": lambda path: bytes(zipped(path, zipfile.ZIP_BZIP2, b" " * (100 * MEGABYTE))),
    "gzip-bomb": lambda path: gzip.compress(b" " * (100 * MEGABYTE)),
    "gzip-with-junk": lambda path: gzip.compress(b'["yes"]') + b"junk",
    "gzip-cut": lambda path: gzip.compress(b'["yes"]' * 99)[:-9],
}


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_file_that_is_damaged_or_a_bomb_is_one_sentence(name, tmp_path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(PACKED[name](path))
    complain(lambda: read_json(path, remedy="give it"), path, "is damaged or not JSON", kind=DataError)


def test_a_zip_within_the_ratio_is_read(tmp_path) -> None:
    document = ["yes" * 1000] * 4000
    zipped(tmp_path / "labels", data=json.dumps(document).encode())
    assert read_json(tmp_path / "labels", remedy="") == document


HEADERS = {
    "unfinished": "{'descr': '<f4', 'fortran_order': F",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }",
    "list": "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 4), }",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4), }",
    "text-as-shape": "{'descr': '<f4', 'fortran_order': False, 'shape': '24', }",
    "code": "{'descr': __import__('os'), 'fortran_order': False, 'shape': (2, 4), }",
    "number-as-order": "{'descr': '<f4', 'fortran_order': 7, 'shape': (2, 4), }",
    "nested": "(" * 5000,
    "digits": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1" * 5000 + "; }",
    "spaces": "{" + " " * 60000 + "x",
    "empty": " ",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_header_of_an_array_is_one_sentence_in_a_store(name, tmp_path) -> None:
    prepare_store([write_tsv(tmp_path / "a.tsv", list(map(row, pictures(2))))], tmp_path / "store", objects=5)
    for file in ("features.npy", "boxes.npy", "objects.npy"):
        path = tmp_path / "store" / file
        sound = path.read_bytes()
        text = HEADERS[name].encode()
        path.write_bytes(sound[:8] + struct.pack("<H", len(text)) + text + sound[128:])
        complain(lambda: open_store(tmp_path / "store"), file, "lxcompress data prepare", kind=DataError)
        path.write_bytes(sound)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i8", "u1"])
def test_a_sound_header_is_read_as_numpy_reads_it(order, dtype, tmp_path) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    with (tmp_path / "a.npy").open("rb") as file:
        header = read_npy_header(file)
    assert header[:3] == (array.shape, order == "F", array.dtype)
    assert header.size_bytes == array.nbytes


@pytest.mark.parametrize("name", ["boxes", "num_boxes", "image_w", "image_h"])
def test_arrays_of_unequal_length_are_named(name, tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_hdf5(tmp_path / "a.h5", pictures(4), kind="vilbert")
    with h5py.File(path, "r+") as file:
        shorter = file[name][:2]
        del file[name]
        file[name] = shorter
    complain(lambda: open_hdf5(path), path, "unequal length", f"{name} 2", kind=DataError)


ODD_INDEX = (float("inf"), -float("inf"), float("nan"), 1e308 * 10, 0.5, True, None, "5", [1], {})


@pytest.mark.parametrize("index", ODD_INDEX, ids=repr)
def test_an_index_that_is_no_whole_number_is_named(index, tmp_path) -> None:
    scenes, questions = tmp_path / "s.json", tmp_path / "q.json"
    scenes.write_text(json.dumps({"scenes": [{"image_index": index, "objects": [{}]}]}))
    questions.write_text(json.dumps({"questions": [{"image_index": index, "question": "?", "answer": "yes"}]}))
    complain(lambda: read_scenes(scenes), scenes, "whole number", kind=DataError)
    complain(lambda: read_questions(questions), questions, "whole number", kind=DataError)


@pytest.mark.parametrize("label", [float("inf"), float("nan"), 10**30, True, -1, 0.0, "0", None], ids=repr)
def test_a_label_that_is_no_whole_number_is_named(label, tmp_path) -> None:
    (tmp_path / "l.json").write_text(json.dumps({"yes": label}))
    complain(lambda: read_labels(tmp_path / "l.json"), "the label of 'yes'", kind=DataError)


def vqa(folder: Path, train: list[Any], annotations: list[Any] | None = None) -> VqaData:
    """Questions of the ids `train`, and annotations of other ids, if any are given."""

    def record(number: Any) -> dict[str, Any]:
        return {"question_id": number, "image_id": 1, "question": "is it?"}

    def annotation(number: Any) -> dict[str, Any]:
        return {"question_id": number, "image_id": 1, "answers": [{"answer": "yes", "answer_id": 1}]}

    (folder / "q.json").write_text(json.dumps({"questions": [record(number) for number in train]}))
    (folder / "a.json").write_text(json.dumps({"annotations": [annotation(number) for number in annotations or train]}))
    (folder / "v.json").write_text(json.dumps({"questions": [record(999)]}))
    files = {"train": folder / "q.json", "train_annotations": folder / "a.json", "valid": folder / "v.json"}
    return VqaData(kind="vqa", least_answers=1, **files)


def test_ids_of_two_types_in_one_file_are_named_with_an_example_of_each(tmp_path) -> None:
    data = vqa(tmp_path, [1, 2, "3", 4])
    complain(lambda: read_vqa(data), "q.json", "numbers (1)", 'texts ("3")', kind=DataError)


def test_ids_of_another_type_in_the_annotations_are_named_with_an_example_of_each(tmp_path) -> None:
    data = vqa(tmp_path, [7, 8], ["7", "8"])
    complain(
        lambda: read_vqa(data), "q.json", "a.json", "7 is a number", '"7" in the other file is a text', kind=DataError
    )


@pytest.mark.parametrize("kind", ["vqa", "gqa", "nlvr2"])
def test_predictions_of_any_answer_can_be_written(kind) -> None:
    text = format_predictions(kind, [(1, "é😀"), (2, "\ud800" if kind == "vqa" else "x")])
    assert text.encode("utf-8")


def test_symbolic_links_that_lead_to_themselves_are_one_sentence(tmp_path) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    complain(lambda: read_json(loop, remedy="give it"), loop, "symbolic links", kind=DataError)
    folder = tmp_path / "npz"
    folder.mkdir()
    (folder / "a.npz").symlink_to(folder / "a.npz")
    complain(lambda: prepare_store([folder], tmp_path / "out"), folder, "a", kind=DataError)
