"""Laws of `lxcompress features`: a store that studies read, whatever the threads, and after any interruption."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import ViltConfig
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.check import check_store
from lxcompress.data.fit import DataShape, find_misfits
from lxcompress.data.regions.store import FEATURES, open_store, part_of
from lxcompress.data.regions.write import BAD_ROWS
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError
from lxcompress.extractors.find import NUMBERS, find_photos
from lxcompress.extractors.photo import read_photo
from lxcompress.models import vilt
from lxcompress.models.shape import describe_model
from lxcompress.recipe import VqaData
from lxcompress.workflow.features import ExtractOptions, check_options, extract_features, prepare_pictures
from tests import children

PHOTOS = 6
DYING = """
import os, signal, sys
from pathlib import Path
from lxcompress.data.regions import write
from lxcompress.workflow.features import ExtractOptions, extract_features

write.PIECE_BYTES, write.CHECKPOINT_S = 1, 0

def progress(what, done, total, *, value):
    if value >= 3:
        os.kill(os.getpid(), signal.SIGKILL)

extract_features([Path(sys.argv[1])], Path(sys.argv[2]), ExtractOptions(threads=1), progress=progress)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for index in range(PHOTOS):
        path = folder / ("deep" if index % 2 else "") / f"COCO_val2014_{index:012d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)).save(path)
    (folder / "SOURCE.txt").write_text("where they are from")
    return folder


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("store") / "photos36"
    assert extract_features([photos], out, ExtractOptions(threads=1)).ignored == 1
    return out


def test_the_store_has_every_photograph(store) -> None:
    opened = open_store(store)
    assert opened.features.shape == (PHOTOS, 36, 1280)
    assert sorted(opened.ids) == [f"COCO_val2014_{index:012d}" for index in range(PHOTOS)]
    assert opened.row("3") == opened.ids.index("COCO_val2014_000000000003")
    assert (opened.objects == 36).all()
    assert json.loads((store / "store.json").read_text())["reading"] == "--extractor grid-efficientnet-lite0"
    facts = {fact.name: fact.values for fact in check_store(store).facts}
    assert list(facts["made with"].values()) == ["--extractor grid-efficientnet-lite0"]


def test_features_depend_neither_on_threads_nor_on_other_photographs(photos, store, tmp_path) -> None:
    extract_features([photos / "deep", photos], tmp_path / "turned", ExtractOptions(threads=3))
    first, second = open_store(store), open_store(tmp_path / "turned")
    for image in first.ids:
        assert np.array_equal(first.features[first.row(image)], second.features[second.row(image)])
    assert first.ids != second.ids


def test_after_a_kill_the_same_command_makes_the_same_store(photos, store, tmp_path) -> None:
    out = tmp_path / "photos36"
    assert children.run(DYING, photos, out).returncode == -signal.SIGKILL
    assert part_of(out).is_dir()
    made = extract_features([photos], out, ExtractOptions(threads=2)).made
    assert made.kept_before >= 1
    for name in (FEATURES, "boxes.npy", "objects.npy", "ids.txt", "store.json"):
        assert (out / name).read_bytes() == (store / name).read_bytes(), name
    assert extract_features([photos], out).made.kept_before == PHOTOS
    with pytest.raises(
        DataError, match=r"was made from 6 photographs .* with --objects 36 --extractor grid-efficientnet-lite0"
    ):
        extract_features([photos], out, ExtractOptions(grid=3))


def test_a_study_reads_the_store(store, tmp_path) -> None:
    files = {}
    for split, images in {"train": (0, 1, 2, 3), "valid": (4, 5)}.items():
        files[split] = tmp_path / f"{split}.json"
        files[split].write_text(
            json.dumps(
                [
                    {"question_id": f"{split}{image}", "img_id": str(image), "sent": "is it red?", "label": {"yes": 1}}
                    for image in images
                ]
            )
        )
    data = VqaData(kind="vqa", train=files["train"], valid=files["valid"], features=store, least_answers=1)
    task = load_task(data)
    assert task.feature_size == 1280
    assert len(task.train) == 4


def test_pictures_are_stored_for_models_that_read_them(photos, tmp_path) -> None:
    extract_features([photos], tmp_path / "pictures", ExtractOptions(extractor="pixels", side=32))
    opened = open_store(tmp_path / "pictures")
    assert opened.features.shape == (PHOTOS, 1, 3 * 32 * 32)
    assert opened.boxes[0].tolist() == [[0, 0, 1, 1]]
    pixels = read_photo(find_photos([photos]).paths[0], 32)
    stored = opened.features[0, 0].astype(np.float32).reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.rint(stored * 127.5 + 127.5), pixels)
    reads = describe_model("m", ViltConfig(image_size=32, patch_size=16), vilt.FAMILY)
    assert not find_misfits(reads, DataShape("vqa", feature_size=opened.features.shape[-1], regions=1))


def test_an_option_without_effect_is_refused() -> None:
    for options, told in (
        (ExtractOptions(side=32), "--side 32: has no effect on grid-efficientnet-lite0; it is for pixels"),
        (ExtractOptions(extractor="pixels", side=32, grid=3), "--grid 3: has no effect on pixels"),
        (ExtractOptions(extractor="pixels"), "--side: is missing, expected 8 to 512"),
        (ExtractOptions(extractor="pixels", side=4), "--side: is 4, expected 8 to 512"),
    ):
        with pytest.raises(DataError, match=told):
            check_options(options)


def test_a_bad_photograph_stops_or_is_listed(photos, tmp_path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    os.link(photos / "COCO_val2014_000000000000.jpg", folder / "a.jpg")
    (folder / "b.jpg").write_text("no photograph")
    with pytest.raises(DataError, match=r"b\.jpg: it is no JPEG, PNG or WebP photograph.*--skip-bad"):
        extract_features([folder], tmp_path / "store")
    made = extract_features([folder], tmp_path / "store", ExtractOptions(skip_bad=True)).made
    assert (made.record.images, made.record.skipped) == (1, 1)
    assert json.loads((tmp_path / "store" / BAD_ROWS).read_text())[0]["photograph"] == 2


def test_the_command_says_what_it_made(photos, tmp_path) -> None:
    done = children.run(children.COMMAND, "features", photos / "*.jpg", "--out", tmp_path / "three", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "3 images, 36 regions of 1,280 features" in done.stdout
    assert "data.features" in done.stderr
    none = children.run(children.COMMAND, "features", tmp_path / "absent", "--out", tmp_path / "none")
    assert none.returncode == 1
    assert "no such file or folder" in none.stderr


def test_photographs_are_found_by_name_folder_and_pattern(photos, tmp_path) -> None:
    whole = find_photos([photos])
    assert len(whole.paths) == PHOTOS
    assert whole.ignored == 1
    assert find_photos([photos, photos / "deep"]).paths == whole.paths
    assert len(find_photos([photos / "**" / "*.jpg"]).paths) == PHOTOS
    assert find_photos([photos / "SOURCE.txt"]).ids == ("SOURCE.txt",)
    (tmp_path / "empty").mkdir()
    for given, told in ((tmp_path / "empty", "has no photograph"), (tmp_path / "*.png", "matches no file")):
        with pytest.raises(DataError, match=told):
            find_photos([given])


def test_links_without_a_file_are_named(photos, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    os.link(find_photos([photos]).paths[0], tmp_path / "photos" / "one.jpg")
    dead = tmp_path / "photos" / "dead.jpg"
    dead.symlink_to(tmp_path / "absent.jpg")
    for given in (dead.parent, dead.parent / "*.jpg"):
        found = find_photos([given])
        assert ([path.name for path in found.paths], found.dead_links) == (["one.jpg"], (dead,))
    with pytest.raises(DataError, match=r"dead\.jpg: is a link whose file is missing"):
        find_photos([dead])
    words = ["data", "prepare", str(dead.parent), "--pictures", "16", "--out", str(tmp_path / "store")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert f"1 link was not read, because its file is missing; the first is {dead}" in shown.output


def test_ids_come_from_a_table(photos, tmp_path) -> None:
    table = tmp_path / "ids.csv"
    names = [path.name for path in find_photos([photos]).paths]
    table.write_text("file,id\n" + "".join(f"{name},image{index}\n" for index, name in enumerate(names)))
    assert find_photos([photos], table).ids == tuple(f"image{index}" for index in range(PHOTOS))
    table.write_text("file\tid\n" + "".join(f"{name}\tsame\n" for name in names))
    with pytest.raises(DataError, match=r"have the same id 'same'; give each its own id in the table"):
        find_photos([photos], table)
    for text, told in (
        ("file,id\n" + f"{names[0]},x\n", r"has no line for .* and 4 more"),
        ("name,id\n", "expected the columns file,id"),
        ("", "begins with 'nothing'"),
        ("file,id\nx\n", "line 2"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=told):
            find_photos([photos], table)


def test_ids_may_be_the_numbers_of_the_names(photos, tmp_path) -> None:
    assert sorted(find_photos([photos], NUMBERS).ids) == [str(index) for index in range(PHOTOS)]
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(DataError, match=r"cat\.jpg: has no number at the end of its name, as --ids numbers needs"):
        find_photos([tmp_path], NUMBERS)


def test_two_photographs_of_one_name_are_named(photos, tmp_path) -> None:
    os.link(photos / "COCO_val2014_000000000000.jpg", tmp_path / "COCO_val2014_000000000000.jpg")
    with pytest.raises(DataError, match="have the same id 'COCO_val2014_000000000000'; rename one, or give a table"):
        find_photos([photos, tmp_path])


def test_data_prepare_makes_a_store_of_pictures(photos, tmp_path) -> None:
    extract_features([photos], tmp_path / "features", ExtractOptions(extractor="pixels", side=16))
    prepare_pictures([photos], tmp_path / "pictures", 16)
    for name in (FEATURES, "boxes.npy", "ids.txt", "store.json"):
        assert (tmp_path / "pictures" / name).read_bytes() == (tmp_path / "features" / name).read_bytes()
    with pytest.raises(DataError, match=r"--objects 10: has no effect on --pictures 16"):
        prepare_pictures([photos], tmp_path / "none", 16, without_effect="--objects 10")
