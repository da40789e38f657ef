"""Laws of interruption: a conversion that was interrupted or killed, and resumed, equals one that was not."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lxcompress.data.regions import write
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import part_of
from lxcompress.data.regions.verify import verify_store
from lxcompress.errors import DataError
from tests import children
from tests.data.regions.pictures import pictures, row, write_hdf5, write_npz, write_tsv

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 60
DYING = """
import os, signal, sys
from pathlib import Path
from lxcompress.data.regions import write
from lxcompress.data.regions.prepare import prepare_store

write.PIECE_BYTES, write.CHECKPOINT_S = 400, 0

def progress(what, done, total, *, value):
    if value >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

prepare_store([Path(path) for path in sys.argv[3:]], Path(sys.argv[2]), objects=5, skip_bad=True, progress=progress)
"""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch) -> None:
    """Pieces of three rows, each kept at once."""
    monkeypatch.setattr(write, "PIECE_BYTES", 400)
    monkeypatch.setattr(write, "CHECKPOINT_S", 0)


@pytest.fixture
def sources(tmp_path) -> list[Path]:
    """One source of each kind, with bad rows in between."""
    made = pictures(IMAGES)
    rows = list(map(row, made))
    rows[7][9], rows[22][9] = "?", rows[22][9][:-5]
    folder = write_npz(tmp_path / "npz", made[36:48], kind="uniter")
    (folder / f"{made[40].image}.jpg.npz").write_bytes(b"bad")
    return [
        write_tsv(tmp_path / "a.tsv", rows[:12]),
        write_tsv(tmp_path / "b.zip", rows[12:24]),
        write_tsv(tmp_path / "c.tsv.gz", rows[24:36]),
        folder,
        write_hdf5(tmp_path / "d.h5", made[48:], kind="groups"),
    ]


def convert(sources: list[Path], out: Path, progress: Callable[..., None] = lambda *what, **value: None) -> int:
    """Returns how many images earlier runs had kept."""
    return prepare_store(sources, out, objects=5, skip_bad=True, progress=progress).kept_before


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.fixture
def uninterrupted(sources, tmp_path) -> dict[str, bytes]:
    convert(sources, tmp_path / "at-once")
    verify_store(tmp_path / "at-once")
    return contents(tmp_path / "at-once")


def interrupt(after: int) -> Callable[..., None]:
    counter = itertools.count(1)

    def progress(*what: object, **value: object) -> None:
        if next(counter) >= after:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("after", [1, 4, 7, 11, 15])
def test_interrupted_and_resumed_equals_uninterrupted(sources, tmp_path, uninterrupted, after) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        convert(sources, out, interrupt(after))
    assert not out.exists()
    kept = convert(sources, out)
    assert 0 < kept < IMAGES
    assert contents(out) == uninterrupted
    assert not part_of(out).exists()


def test_interrupted_at_every_step_equals_uninterrupted(sources, tmp_path, uninterrupted) -> None:
    out, kept = tmp_path / "store", [0]
    for _ in range(IMAGES):
        try:
            kept.append(convert(sources, out, interrupt(2)))
            break
        except KeyboardInterrupt:
            journal = write.read_journal(part_of(out))
            assert journal is not None
            assert journal.images > kept[-1]
            kept.append(journal.images)
    assert contents(out) == uninterrupted
    assert len(kept) > 5


@pytest.mark.parametrize("seed", range(4))
def test_killed_and_resumed_equals_uninterrupted(sources, tmp_path, uninterrupted, seed) -> None:
    out, images = tmp_path / "store", random.Random(seed).randrange(3, IMAGES - 6)
    died = children.run(DYING, images, out, *sources, cwd=ROOT)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not out.exists()
    convert(sources, out)
    assert contents(out) == uninterrupted


def test_what_lies_behind_the_journal_is_cut_off(sources, tmp_path, uninterrupted) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        convert(sources, out, interrupt(6))
    for path in part_of(out).iterdir():
        if path.suffix in (".npy", ".txt", ".jsonl"):
            with path.open("ab") as file:
                file.write(b"half a row")
    convert(sources, out)
    assert contents(out) == uninterrupted


def test_interrupted_before_the_folder_got_its_name_only_names_it(sources, tmp_path, uninterrupted) -> None:
    out = tmp_path / "store"
    convert(sources, out)
    os.replace(out, part_of(out))
    convert(sources, out)
    assert contents(out) == uninterrupted


def test_what_is_done_is_not_done_again(sources, tmp_path) -> None:
    out = tmp_path / "store"
    convert(sources, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert convert(sources, out) > 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("change", ["order", "fewer", "objects", "done", "ids", "shorter"])
def test_other_sources_are_not_mixed_with_what_is_done(sources, tmp_path, change) -> None:
    out, objects = tmp_path / "store", 5
    with pytest.raises(KeyboardInterrupt):
        convert(sources, out, interrupt(3 if change in ("ids", "shorter") else 6))
    if change == "order":
        sources.reverse()
    elif change == "fewer":
        sources.pop()
    elif change == "objects":
        objects = 6
    elif change == "done":
        write_tsv(sources[0], list(map(row, pictures(13))))
    elif change == "ids":
        write_tsv(sources[0], list(map(row, pictures(30)[13:])))
    else:
        write_tsv(sources[0], list(map(row, pictures(2))))
    with pytest.raises(
        DataError,
        match=r"begun from a.tsv.*delete .*store.part|has changed since it was converted up to line .* delete",
    ):
        prepare_store(sources, out, objects=objects, skip_bad=True)


def test_files_that_were_lost_are_noticed(sources, tmp_path) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        convert(sources, out, interrupt(6))
    os.truncate(part_of(out) / "features.npy", 200)
    with pytest.raises(DataError, match=r"features.npy: is shorter than journal.json says; delete"):
        convert(sources, out)


def test_two_conversions_do_not_share_a_store(sources, tmp_path) -> None:
    out = tmp_path / "store"
    said: list[str] = []

    def progress(*what: object, **value: object) -> None:
        with pytest.raises(DataError, match="another conversion is running") as caught:
            convert(sources, out)
        said.append(str(caught.value))

    convert(sources, out, progress)
    assert said
    verify_store(out)


def test_the_disk_is_asked_before_anything_is_written(sources, tmp_path, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match=r"needs about 0.0 GB .*free some space, or give an --out on another"):
        convert(sources, tmp_path / "store")
    assert [path.name for path in part_of(tmp_path / "store").iterdir() if path.name != ".lock"] == []


def test_what_stands_at_out_is_never_overwritten(sources, tmp_path) -> None:
    out = tmp_path / "store"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="exists and is not a store; give another --out"):
        convert(sources, out)
    convert(sources[:1], tmp_path / "other")
    with pytest.raises(DataError, match=r"was made from a.tsv with --objects 5; delete it, or give another --out"):
        convert(sources, tmp_path / "other")
    part = part_of(tmp_path / "third")
    part.mkdir()
    (part / "mine.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"has mine\.txt, which lxcompress did not write"):
        convert(sources, tmp_path / "third")
    assert (out / "thesis.txt").read_text() == (part / "mine.txt").read_text() == "years of work"


def test_an_empty_folder_at_out_is_taken(sources, tmp_path) -> None:
    (tmp_path / "store").mkdir()
    convert(sources, tmp_path / "store")
    verify_store(tmp_path / "store")


def test_a_full_disk_is_one_sentence_and_what_is_kept_is_gone_on_with(sources, tmp_path) -> None:
    out = tmp_path / "store"
    script = DYING.replace("    if value", "    if False and value")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); "
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    died = children.run(f"{limit}{ignore}\n{script}", 0, out, *sources, cwd=ROOT)
    assert "DataError" in died.stderr
    assert "cannot be written (File too large); free some space, and run the same command" in died.stderr
    assert convert(sources, out) > 0
    verify_store(out)


def swap(path: Path, image: int, count: int) -> None:
    """Changes a number of one image of a TSV, and neither the file's size nor its times."""
    lines, before = path.read_bytes().split(b"\n"), path.stat()
    fields = lines[image].split(b"\t")
    packed = fields[-1]
    fields[-1] = packed[:count] + (b"B" if packed[count : count + 1] == b"A" else b"A") + packed[count + 1 :]
    lines[image] = b"\t".join(fields)
    path.write_bytes(b"\n".join(lines))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.fixture
def table(tmp_path) -> Path:
    return write_tsv(tmp_path / "table.tsv", list(map(row, pictures(20))))


@pytest.mark.parametrize("how", ["in place", "another folder"])
def test_a_finished_store_is_of_the_content_of_its_source(how, table, tmp_path) -> None:
    out = tmp_path / "store"
    convert([table], out)
    assert convert([table], out) == 20
    if how == "in place":
        swap(table, 3, 3)
    else:  # folders that change places change no time of the files in them
        (tmp_path / "other").mkdir()
        other = Path(shutil.copy2(table, tmp_path / "other/table.tsv"))
        swap(other, 3, 3)
        table = other
    with pytest.raises(DataError, match=r"table.tsv has changed since this store was made from it; delete"):
        convert([table], out)


def test_a_source_that_was_copied_is_still_the_same(table, tmp_path) -> None:
    convert([table], tmp_path / "store")
    (tmp_path / "copy").mkdir()
    copy = Path(shutil.copy(table, tmp_path / "copy/table.tsv"))
    assert convert([copy], tmp_path / "store") == 20
    os.utime(table)
    assert convert([table], tmp_path / "store") == 20


def test_an_older_store_without_checksums_is_of_a_source_that_is_older(table, tmp_path) -> None:
    out = tmp_path / "store"
    convert([table], out)
    record = json.loads((out / "store.json").read_text("utf-8"))
    record.pop("seal", None)
    for source in record["sources"]:
        del source["sha256"], source["stamp"]
    (out / "store.json").write_text(json.dumps(record), encoding="utf-8")
    assert convert([table], out) == 20
    table.write_bytes(table.read_bytes())
    os.utime(table, (2e9, 2e9))
    with pytest.raises(DataError, match="has changed since"):
        convert([table], out)


@pytest.mark.parametrize(("image", "is_before"), [(0, True), (2, True), (19, False)])
def test_a_resumed_store_mixes_no_old_rows_with_new_ones(image, is_before, table, tmp_path) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        convert([table], out, interrupt(4))
    kept = write.read_journal(part_of(out)).images
    assert 3 <= kept < 19
    swap(table, image, 3)
    if is_before:
        with pytest.raises(DataError, match=r"has changed since it was converted up to line .*; delete .*store.part"):
            convert([table], out)
        shutil.rmtree(part_of(out))
    convert([table], out)
    convert([table], tmp_path / "anew")
    for name in ("features.npy", "boxes.npy", "ids.txt", "store.json"):
        assert (out / name).read_bytes() == (tmp_path / "anew" / name).read_bytes()


RACER = """
import os, sys, time
from pathlib import Path
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.errors import DataError
table, store, start = (Path(word) for word in sys.argv[1:])
start.with_name(f"ready-{os.getpid()}").touch()
while not start.exists():
    time.sleep(0.001)
try:
    prepare_store([table], store, objects=6)
    print("made")
except DataError as error:
    print(error)
"""
"""A conversion that starts when a file is there."""


def test_of_many_conversions_to_one_store_each_ends_and_the_store_is_whole(table, tmp_path, tmp_path_factory) -> None:
    start = tmp_path_factory.mktemp("race") / "start"
    racers = [children.start(RACER, table, tmp_path / "store", start, cwd=ROOT) for _ in range(3)]
    while len(list(start.parent.glob("ready-*"))) < len(racers):
        assert all(racer.poll() is None for racer in racers)
        time.sleep(0.01)
    start.touch()
    said = [racer.finish().stdout for racer in racers]
    assert any(sentence == "made\n" for sentence in said)
    assert all(sentence == "made\n" or "another conversion is running" in sentence for sentence in said), said
    verify_store(tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "table.tsv"]
