"""Laws of hostile and damaged files: one sentence, bounded memory, nothing written elsewhere, nothing unpickled."""

from __future__ import annotations

import json
import os
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lxcompress.data.regions import lines, write
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import open_store
from lxcompress.errors import DataError
from tests.data.regions.pictures import pictures, row, write_hdf5, write_npz, write_tsv

MEGABYTE = 1_000_000


def refused(path: Path, *, skip_bad: bool = False) -> str:
    """The one sentence that conversion ends with; nothing stands at its place afterwards."""
    out = path.parent / "store"
    with pytest.raises(DataError) as caught:
        prepare_store([path], out, objects=5, skip_bad=skip_bad)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path))
    assert len(said) < 700
    assert not out.exists()
    return said


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.tsv", b"", "is empty"),
        ("blank.tsv", b"\n\n\n", "is empty"),
        ("random.tsv", np.random.default_rng(0).bytes(300_000), "is not a known format of region features"),
        ("zeros.tsv", bytes(300_000), "is not a known format of region features"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(5000), "is not a known format of region features"),
        ("pickle.pkl", b"\x80\x04\x95\x0b\x00\x00\x00", "is not a known format of region features"),
        ("some.tsv.gz", b"\x1f\x8b\x08\x00" + bytes(60), "cannot be read further"),
        ("some.zip", b"PK\x03\x04" + bytes(600), "is a damaged zip"),
        ("some.h5", b"\x89HDF\r\n\x1a\n" + bytes(600), "is damaged HDF5"),
        ("seven.tsv", b"a\tb\tc\td\te\tf\tg\n" * 9, "its first line has 7 columns, expected LXMERT's 10"),
    ],
)
def test_what_holds_no_regions_is_refused(tmp_path, name, data, reason, skip_bad) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if name == "some.h5":
        pytest.importorskip("h5py", reason="h5py is not installed, which HDF5 needs")
    assert reason in refused(path, skip_bad=skip_bad)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_header_without_rows_is_refused(tmp_path, skip_bad) -> None:
    columns = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"]
    assert "has no usable row" in refused(write_tsv(tmp_path / "a.tsv", [columns]), skip_bad=skip_bad)


def test_a_file_of_bad_rows_alone_is_refused_though_they_may_be_skipped(tmp_path) -> None:
    rows = [row(picture, features="?") for picture in pictures(9)]
    assert "has no usable row" in refused(write_tsv(tmp_path / "a.tsv", rows), skip_bad=True)


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"A" * (100 * MEGABYTE))
    assert peak_bytes(lambda: refused(path)) < 60 * MEGABYTE


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_line_without_end_among_rows_is_one_bad_row(tmp_path, place) -> None:
    made = pictures(6)
    path = write_tsv(tmp_path / "a.tsv", list(map(row, made)))
    good = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*good[:place], b"A\t" * (20 * MEGABYTE), *good[place:]]))
    peak = peak_bytes(lambda: prepare_store([path], tmp_path / "store", objects=5, skip_bad=True))
    assert peak < 60 * MEGABYTE
    (entry,) = json.loads((tmp_path / "store" / "bad_rows.json").read_text())
    assert entry["line"] == place + 1
    assert "is longer than 16,777,216 bytes" in entry["reason"]
    assert len(open_store(tmp_path / "store")) == 6


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".zip"])
def test_memory_does_not_grow_with_the_source(tmp_path, suffix, monkeypatch) -> None:
    monkeypatch.setattr(write, "PIECE_BYTES", 1 << 18)
    monkeypatch.setattr(lines, "READ_BYTES", 1 << 16)
    rows = list(map(row, pictures(1200, features=512)))
    peaks = []
    for count in (300, 1200):
        path = write_tsv(tmp_path / f"of{count}{suffix}", rows[:count])
        peaks.append(peak_bytes(lambda path=path, count=count: prepare_store([path], tmp_path / f"{count}", objects=5)))
    grown = sum(len("\t".join(columns)) for columns in rows[300:])
    assert grown > 5 * MEGABYTE
    assert peaks[1] - peaks[0] < 0.1 * grown


@pytest.mark.parametrize("name", ["../../escaped.tsv", "{root}/escaped.tsv", "a/../../../escaped.tsv"])
def test_names_that_lead_out_of_a_zip_lead_nowhere(tmp_path, name) -> None:
    made = pictures(4)
    text = write_tsv(tmp_path / "a.tsv", list(map(row, made))).read_bytes()
    path = tmp_path / "deep" / "er" / "a.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(name.format(root=tmp_path), text)
    prepare_store([path], path.parent / "store", objects=5)
    assert not list(tmp_path.rglob("escaped*"))
    assert len(open_store(path.parent / "store")) == 4


def test_a_zip_that_inflates_a_thousandfold_is_read_in_bounded_memory(tmp_path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr("bomb.tsv", bytes(200 * MEGABYTE))
    assert path.stat().st_size < MEGABYTE
    said: list[str] = []
    assert peak_bytes(lambda: said.append(refused(path))) < 60 * MEGABYTE
    assert "it unpacks to more than 200 times its size" in said[0]


@pytest.mark.parametrize("suffix", [".tsv.gz", ".zip"])
def test_a_packed_file_that_is_damaged_inside_stops_there_and_goes_on_once_mended(tmp_path, suffix) -> None:
    path = write_tsv(tmp_path / f"a{suffix}", list(map(row, pictures(200, features=900))))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(200) + whole[len(whole) // 2 + 200 :])
    with pytest.raises(DataError, match="cannot be read further") as caught:
        prepare_store([path], tmp_path / "store", objects=5)
    assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    prepare_store([path], tmp_path / "store", objects=5)
    prepare_store([path], tmp_path / "whole", objects=5)
    for name in ("features.npy", "store.json"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("suffix", [".tsv.gz", ".zip"])
def test_a_packed_file_that_was_cut_off_is_refused(tmp_path, suffix) -> None:
    path = write_tsv(tmp_path / f"a{suffix}", list(map(row, pictures(20))))
    path.write_bytes(path.read_bytes()[:-900])
    assert "download it again" in refused(path, skip_bad=True)


def test_a_zip_without_tsv_says_so(tmp_path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("__MACOSX/._a.tsv", b"x")
        packed.writestr("a.npz", b"x")
    assert "has no .tsv in it" in refused(path)


def test_a_locked_zip_is_refused(tmp_path) -> None:
    path = write_tsv(tmp_path / "a.zip", list(map(row, pictures(2))))
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    assert "password" in refused(path)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.ljust(118 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2048), }"), "expected 2 dimensions"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2048), }", b"short"), "is cut short"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (4, 4), }", b"\x80\x04K\x01."), 'it holds "|O"'),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 4), }"), "it"),
        (npy("__import__('os').system('true')"), ".npy header is damaged"),
        (b"no array", "does not begin like a .npy file"),
    ],
)
def test_hostile_arrays_are_bad_files_and_ask_for_no_memory(tmp_path, x, reason) -> None:
    folder = write_npz(tmp_path / "npz", pictures(3), kind="gqa")
    with zipfile.ZipFile(folder / "bad.npz", "w") as packed:
        packed.writestr("x.npy", x)
        for name, array in (("bbox", np.zeros((4, 4), np.float32)), ("image_w", np.int64(9)), ("image_h", np.int64(9))):
            with packed.open(f"{name}.npy", "w") as file:
                np.save(file, array)
    peak = peak_bytes(lambda: prepare_store([folder], tmp_path / "store", objects=5, skip_bad=True))
    assert peak < 40 * MEGABYTE
    (entry,) = json.loads((tmp_path / "store" / "bad_rows.json").read_text())
    assert entry["image"] == "bad"
    assert reason in entry["reason"]


def test_folders_without_npz_files_say_what_they_have(tmp_path) -> None:
    (tmp_path / "npy").mkdir()
    assert "has no .npz files; give" in refused(tmp_path / "npy")
    np.save(tmp_path / "npy" / "1.npy", np.zeros(3))
    assert "its .npy files cannot be used, because they hold no boxes" in refused(tmp_path / "npy")


def test_a_missing_source_says_what_to_give(tmp_path) -> None:
    assert "no such file; give a TSV of region features" in refused(tmp_path / "a.tsv")


def test_an_unknown_hdf5_layout_lists_what_it_has_and_what_is_expected(tmp_path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed, which HDF5 needs")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gri_feat"] = np.zeros((3, 49, 8))
    said = refused(tmp_path / "a.h5")
    assert "gri_feat [3, 49, 8]" in said
    assert "expected groups with features, boxes, img_w and img_h" in said
    with h5py.File(tmp_path / "b.h5", "w"):
        assert True
    assert "it is empty" in refused(tmp_path / "b.h5")


def test_hdf5_that_does_not_name_its_images_says_how_to(tmp_path) -> None:
    path = write_hdf5(tmp_path / "a.h5", pictures(4, regions=(3, 3)), kind="bottom-up")
    beside = tmp_path / "a_imgid2idx.json"
    ids = json.loads(beside.read_text())
    beside.write_text(json.dumps(dict.fromkeys(ids, 0)))
    assert "does not map image ids to the 4 rows" in refused_beside(path, beside)
    beside.unlink()
    assert "write the ids to a_ids.txt" in refused(path)
    (tmp_path / "a_imgid2idx.pkl").write_bytes(b"\x80\x04K\x01.")
    assert "pickles are never read here" in refused(path)
    (tmp_path / "a_ids.json").write_text("[1, 2, 3]")
    assert "has 3 ids, but a.h5 has 4 images" in refused_beside(path, tmp_path / "a_ids.json")
    (tmp_path / "a_ids.json").write_text('["7", "8", "9", "n10"]')
    prepare_store([path], tmp_path / "store", objects=5)
    assert open_store(tmp_path / "store").ids == ("7", "8", "9", "n10")


def refused_beside(path: Path, named: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare_store([path], path.parent / "store", objects=5)
    assert str(caught.value).startswith(str(named))
    return str(caught.value)


def test_hdf5_that_claims_a_trillion_images_is_refused(tmp_path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed, which HDF5 needs")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shapes = {"features": (36, 2048), "boxes": (36, 4), "image_w": (), "image_h": (), "ids": ()}
        for name, shape in shapes.items():
            file.create_dataset(name, (10**12, *shape), np.float32, chunks=(1, *shape))
    assert "holds 1,000,000,000,000 images" in refused(tmp_path / "a.h5")


def test_without_h5py_the_sentence_says_what_to_install(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "install it with: pip install 'lxcompress[hdf5]'" in refused(tmp_path / "a.h5")


def test_a_source_that_may_not_be_read_is_named(tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = write_tsv(tmp_path / "a.tsv", list(map(row, pictures(2))))
    path.chmod(0)
    with pytest.raises(OSError, match=r"a\.tsv"):
        prepare_store([path], tmp_path / "store", objects=5)
