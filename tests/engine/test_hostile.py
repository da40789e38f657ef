"""A file may be anything: it is answered, or refused in one sentence, and never ends the process that reads it.

Files are tried in a process of their own, which says of each what came of it; the first that it says nothing of is the
one that ended it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from lxcompress.engine import ModelFile
from lxcompress.engine.records import ALIGN, HEADER, INPUT, MAGIC, OP, SIZE, TENSOR, VERSION, WEIGHT
from lxcompress.errors import MeasureError
from tests.engine.fuzz.make_seeds import write_seeds

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"sizes": SIZE, "inputs": INPUT, "tensors": TENSOR, "weights": WEIGHT, "ops": OP}
"""Records, in the order of the file."""
ODD = (0, 1, 4, 255, 256, 65536, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Change = Callable[["File"], object]


class File:
    """A model file in memory: its header, its records as arrays that write through, and its bytes."""

    def __init__(self, content: bytes) -> None:
        self.bytes = bytearray(content)
        self.head = np.frombuffer(self.bytes, HEADER, 1)
        at = HEADER.itemsize
        for name, kind in KINDS.items():
            many = int(self.head[name][0])
            setattr(self, name, np.frombuffer(self.bytes, kind, many, at))
            at += many * kind.itemsize
        self.end_of_records = at

    @property
    def data(self) -> int:
        """Where the weights start."""
        return int(self.head["data_start"][0])

    def seal(self) -> bytes:
        """The bytes, with checksums of what they are now."""
        return seal(bytes(self.bytes))


def seal(content: bytes) -> bytes:
    """The same with the lengths and checksums that a whole file would have; too short a one as it is."""
    if len(content) < HEADER.itemsize:
        return content
    head = np.frombuffer(content[: HEADER.itemsize], HEADER).copy()
    records = sum(int(head[name][0]) * kind.itemsize for name, kind in KINDS.items())
    head["magic"], head["version"], head["file_bytes"], head["records_bytes"] = MAGIC, VERSION, len(content), records
    head["records_crc"] = crc32(content[HEADER.itemsize : HEADER.itemsize + records])
    head["data_crc"] = crc32(content[int(head["data_start"][0]) :])
    head["header_crc"] = crc32(head.tobytes()[:-4])
    return head.tobytes() + content[HEADER.itemsize :]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole files, by name."""
    return {path.stem: path.read_bytes() for path in write_seeds(tmp_path_factory.mktemp("seeds"))}


# -- trying files in a process of their own ---------------------------------------------------------------------------


def try_files(folder: Path) -> None:
    """Opens, verifies and asks each file of a folder, and prints a line of JSON: its name, and what was said."""
    for path in sorted(folder.iterdir()):
        print(json.dumps([path.name, _try_file(path)]), flush=True)


def _try_file(path: Path) -> str:
    rng = np.random.default_rng(0)
    try:
        model = ModelFile(path)
        model.verify()
        for instructions in (None, "base"):
            with model.session(instructions=instructions) as session:
                for rows in (1, 7, 100_000):
                    session.run(None, {one.name: _draw(one, rows, rng) for one in session.get_inputs()})
    except MeasureError as error:
        return str(error)
    return ""


def _draw(one: object, rows: int, rng: np.random.Generator) -> np.ndarray:
    rows = min(rows, one.most_rows)
    if len(one.shape) == 3:
        width = int(one.shape[2])
        rows = min(rows, max(1, (1 << 22) // width))
        kind = np.float32 if one.type == "tensor(float)" else np.int64
        return rng.integers(-3, 4, (1, rows, width)).astype(kind)
    return np.ones((1, rows), np.float32 if one.type == "tensor(float)" else np.int64)


def tell(folder: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """What was said of each of the files, by name: nothing if it was answered. The process has to live through all."""
    folder.mkdir(exist_ok=True)
    names = []
    for name, content in files:
        (folder / name).write_bytes(content)
        names.append(name)
    code = (
        f"from pathlib import Path; from tests.engine.test_hostile import try_files; try_files(Path({str(folder)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    left = sorted(set(names) - set(told))
    assert (done.returncode, left[:1], done.stderr) == (0, [], "")
    for name, text in told.items():
        is_sentence = re.fullmatch(rf"{re.escape(str(folder / name))}: [^\n]{{10,}}; (export|give|check)[^\n]+", text)
        assert not text or is_sentence, text
    return told


# -- any byte ---------------------------------------------------------------------------------------------------------


def test_whole_files_are_answered(seeds: dict[str, bytes], tmp_path: Path) -> None:
    assert set(tell(tmp_path / "whole", seeds.items()).values()) == {""}
    assert {name: seal(content) for name, content in seeds.items()} == seeds


def change_bytes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Each byte of header and records, and some of the weights; what lies between the arrays belongs to these."""
    for at in [*range(File(content).end_of_records), *range(File(content).data, len(content), 7)]:
        yield f"{at:05}", content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def change_words(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Words of header and records, with checksums that fit."""
    for at in range(8, File(content).end_of_records, 4):
        word = ODD[at // 4 % len(ODD)].to_bytes(4, "little")
        yield f"{at:05}", seal(content[:at] + word + content[at + 4 :])


def damage(seeds: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """A few bytes anywhere, also in groups, places and starts of sparse weights."""
    rng = np.random.default_rng(0)
    for name, content in seeds.items():
        for number in range(60):
            damaged = bytearray(content)
            for at in rng.integers(HEADER.itemsize, len(content), 1 + number % 4):
                damaged[at] = rng.integers(256)
            yield f"{name}-{number}", seal(bytes(damaged))


def cut(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that end with each record and array, a byte before, and a byte behind; some with a header that fits."""
    file = File(content)
    ends = {0, 1, HEADER.itemsize, file.data, *range(file.data, len(content), ALIGN)}
    at = HEADER.itemsize
    for name, kind in KINDS.items():
        for _ in range(len(getattr(file, name))):
            at += kind.itemsize
            ends.add(at)
    for length in sorted({end + by for end in ends for by in (-1, 0, 1) if 0 <= end + by < len(content)}):
        yield f"{length:05}-bytes", content[:length]
        yield f"{length:05}-seal", seal(content[:length])


def test_no_byte_can_change_unseen(seeds: dict[str, bytes], tmp_path: Path) -> None:
    told = tell(tmp_path / "changed", change_bytes(seeds["joined"]))
    assert len(told) > 1000
    assert all(told.values())


def test_each_word_of_a_sealed_file_may_be_anything(seeds: dict[str, bytes], tmp_path: Path) -> None:
    """Most are refused, and none does harm."""
    for name in ("embeddings", "blocks", "joined"):
        told = tell(tmp_path / name, change_words(seeds[name]))
        assert len(told) > 150
        assert sum(map(bool, told.values())) > len(told) / 4


def test_random_damage_of_sealed_files_does_no_harm(seeds: dict[str, bytes], tmp_path: Path) -> None:
    assert len(set(tell(tmp_path / "damaged", damage(seeds)).values())) > 20


def test_a_file_cut_anywhere_is_refused(seeds: dict[str, bytes], tmp_path: Path) -> None:
    told = tell(tmp_path / "cut", cut(seeds["sparse-int8"]))
    assert len(told) > 100
    assert all(told.values())
    bare = {int(name[:5]): said for name, said in told.items() if name.endswith("-bytes")}
    assert all("cut short" in said for length, said in bare.items() if length >= HEADER.itemsize)


# -- one lie each -----------------------------------------------------------------------------------------------------


def _set(records: str, field: str, value: object, place: int = 0) -> Change:
    return lambda file: getattr(file, records)[field].__setitem__(place, value)


def _slice(op: int, place: int, field: str, value: int) -> Change:
    return lambda file: file.ops["in"][field].__setitem__((op, place), value)


def _group(place: int, row: int | None = None, count: int | None = None) -> Change:
    """Another number of a row, or more entries, of a group of the first weight with groups."""

    def change(file: File) -> None:
        weight = next(one for one in file.weights if one["groups"])
        at = file.data + int(weight["groups"]) + 8 * place
        if row is not None:
            file.bytes[at] = row
        if count is not None:
            file.bytes[at + 4 : at + 6] = count.to_bytes(2, "little")

    return change


def _share_arrays(file: File) -> None:
    """All weights name the arrays of the largest."""
    file.weights[:] = file.weights[file.weights["entries"].argmax()]


def _swap_ops(first: int) -> Change:
    return lambda file: file.ops.__setitem__([first, first + 1], file.ops[[first + 1, first]])


def _leave_out_scores(file: File) -> None:
    file.head["ops"] -= 1


def _point_behind(field: str) -> Change:
    """An array of the first weight starts where the file ends."""
    return lambda file: _set("weights", field, len(file.bytes) - file.data)(file)


LIES: dict[str, tuple[str, str, Change]] = {
    "ops that are none": ("joined", "operation 0 has the unknown kind 11", _set("ops", "code", 11)),
    "slices that are not read": (
        "dense-fp32",
        "operation 0 has an input that it does not read",
        _slice(0, 0, "tensor", 0),
    ),
    "sizes of slices that are not read": (
        "dense-fp32",
        "operation 0 has an input that it does not read",
        lambda file: (_slice(0, 0, "tensor", 0)(file), _slice(0, 0, "columns", 0x7FFFFFFF)(file)),
    ),
    "tensors that are none": ("joined", "operation 2 reads a tensor that does not exist", _slice(2, 0, "tensor", 100)),
    "tensors below zero": ("joined", "operation 2 reads a tensor that does not exist", _slice(2, 0, "tensor", -2)),
    "channels behind the last": ("attention", "reads channels that do not exist", _slice(2, 2, "row", 13)),
    "channels that wrap": ("attention", "reads channels that do not exist", _slice(2, 2, "row", 0xFFFFFFFF)),
    "no channels": ("attention", "reads channels that do not exist", _slice(2, 0, "rows", 0)),
    "columns of no size": ("joined", "reads columns that are not a size of the file", _slice(2, 0, "columns", 99)),
    "starts of no size": ("joined", "reads columns that are not a size of the file", _slice(3, 0, "start", -2)),
    "columns behind the last": ("joined", "columns from column 2 do not exist", _slice(3, 0, "start", 3)),
    "an output that is read": ("dense-fp32", "operation 2 reads the tensor that it writes", _set("ops", "out", 0, 2)),
    "what was not written": ("joined", "operation 1 reads a tensor before it is written", _swap_ops(1)),
    "a sum onto nothing": ("embeddings", "operation 0 adds to a tensor before it is written", _set("ops", "adds", 1)),
    "scores before the end": ("dense-fp32", "operation 2 gives the scores, but is not the last one", _swap_ops(2)),
    "no scores": ("dense-fp32", "the last operation gives no scores", _leave_out_scores),
    "another number of scores": ("dense-fp32", "gives a wrong number of scores", _set("head", "scores", 9)),
    "heads that do not divide": (
        "attention",
        "has queries, keys or values that do not fit its output",
        _set("ops", "count", 5, 2),
    ),
    "no heads": ("attention", "has queries, keys or values that do not fit its output", _set("ops", "count", 0, 2)),
    "a row behind the table": ("embeddings", "embeds row 3 of 3", _set("ops", "count", 3, 2)),
    "a place behind the table": ("embeddings", "a position is 9, expected 0 to 8", _set("ops", "weight", 0, 1)),
    "a weight that is none": (
        "dense-fp32",
        "has a weight or input that does not fit its output",
        _set("ops", "weight", 9, 2),
    ),
    "a bias that is none": ("dense-fp32", "has a bias that does not fit its output", _set("ops", "bias", 0, 2)),
    "an activation that is none": ("dense-fp32", "has the unknown activation 5", _set("ops", "activation", 5, 2)),
    "no columns": ("joined", "size 2 has the value 0", _set("sizes", "add", 0, 2)),
    "sizes of later ones": ("joined", "the sum of sizes that are not before it", _set("sizes", "a", 3, 3)),
    "a size too large": ("joined", "has the limit 262145", _set("sizes", "most", 262145)),
    "a size that no mask has": ("joined", "size 0 has no mask", _set("sizes", "b", 1)),
    "no rows": ("dense-fp32", "weight 0 is 0 x 7", _set("weights", "rows", 0)),
    "a weight of more than all memory": ("dense-fp32", "weight 0 is", _set("weights", "columns", 0xFFFFFFFF)),
    "a panel of nothing": ("dense-fp32", "has panels of 0", _set("weights", "panel", 0)),
    "a panel of a row": ("dense-fp32", "has panels of 1", _set("weights", "panel", 1)),
    "a tile of nothing": ("sparse-fp32", "tiles of 0", _set("weights", "tile", 0)),
    "a tile that a byte cannot count": ("sparse-fp32", "tiles of 257", _set("weights", "tile", 257)),
    "values behind the end": ("dense-fp32", "lies outside of the file", _set("weights", "values", 1 << 20)),
    "values that wrap": ("dense-fp32", "lies outside of the file", _set("weights", "values", (1 << 64) - 64)),
    "an offset that is not read": ("dense-fp32", "lies outside of the file", _set("weights", "sums", (1 << 64) - 1)),
    "values between the lines": ("dense-fp32", "lies outside of the file", _set("weights", "values", 4)),
    "entries that wrap": ("sparse-fp32", "has too many entries", _set("weights", "entries", (1 << 64) - 1)),
    "more entries than counted": (
        "sparse-fp32",
        "has a panel with a wrong start|entries, expected",
        _group(0, count=9),
    ),
    "a row twice": ("sparse-fp32", "has a row that is repeated or does not exist", _group(0, row=255)),
    "arrays that are shared": ("layers", "lies outside of the file", _share_arrays),
    "scales that are not there": ("dense-int8", "has no scales", _point_behind("scales")),
    "sums that are not there": ("quantised", "has no sums", _set("weights", "sums", 1)),
    "a name with a line's end": ("joined", "input 0 has no name", _set("inputs", "name", b"a\nb")),
    "a name of commands": ("joined", "input 0 has no name", _set("inputs", "name", b"\x1b[2J")),
    "a name without an end": ("joined", "input 0 has no name", _set("inputs", "name", b"a" * 32)),
    "an input of no type": ("joined", "input 0 has the unknown type 2", _set("inputs", "type", 2)),
    "an input of no width": ("joined", "input 1 is 0 wide", _set("inputs", "width", 0, 1)),
    "an input of no size": (
        "joined",
        "has a number of rows that is not a size of the file",
        _set("inputs", "size", -1),
    ),
    "a picture of half a row": ("picture", "operation 1 has a picture of an unknown width", _set("ops", "width", 7, 1)),
    "a kernel of no side": ("picture", "operation 1 has a kernel of 0", _set("ops", "count", 0, 1)),
    "a stride of nothing": ("picture", "operation 1 has a kernel of 3, a stride of 0", _set("ops", "mode", 0, 1)),
    "a padding as wide as the kernel": ("picture", "and a padding of 3", _set("ops", "padding", 3, 1)),
    "patches of a larger kernel": ("picture", "operation 2 does not have a channel for", _set("ops", "count", 4, 2)),
    "scores of too many columns": ("picture", "gives a wrong number of scores", _set("ops", "mode", 0, 5)),
    "a tensor of no channels": ("joined", "tensor 0 has 0 channels", _set("tensors", "channels", 0)),
}


def _lie(content: bytes, change: Change) -> bytes:
    file = File(content)
    change(file)
    assert bytes(file.bytes) != content
    return file.seal()


def test_each_lie_is_told(seeds: dict[str, bytes], tmp_path: Path) -> None:
    told = tell(
        tmp_path / "lies",
        ((name.replace(" ", "-"), _lie(seeds[seed], change)) for name, (seed, _, change) in LIES.items()),
    )
    wrong = {
        name: told[name.replace(" ", "-")]
        for name, (_, said, _) in LIES.items()
        if not re.search(said, told[name.replace(" ", "-")])
    }
    assert wrong == {}


@pytest.mark.parametrize("version", [0, VERSION + 1, 0xFFFFFFFF])
def test_other_versions_are_named(seeds: dict[str, bytes], tmp_path: Path, version: int) -> None:
    """Before anything else is believed: a later version may have another header."""
    file = File(seeds["joined"])
    file.head["version"] = version
    path = tmp_path / "model.lxe"
    path.write_bytes(file.bytes)
    with pytest.raises(MeasureError, match=rf"has version {version}, but this engine reads version {VERSION}\)"):
        ModelFile(path)


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("many", [65537, 0x7FFFFFFF, 0xFFFFFFFF])
def test_huge_counts_are_refused(seeds: dict[str, bytes], tmp_path: Path, name: str, many: int) -> None:
    file = File(seeds["joined"])
    file.head[name] = many
    path = tmp_path / "model.lxe"
    path.write_bytes(file.seal())
    with pytest.raises(MeasureError, match="has more than 65536 records of a kind"):
        ModelFile(path)


def test_a_small_file_gets_no_large_memory(seeds: dict[str, bytes], tmp_path: Path) -> None:
    """A load of the widest input of the longest question: its tensor would take 4 TB."""
    file = File(seeds["dense-fp32"])
    file.inputs["width"][1] = file.tensors["channels"][0] = 1 << 24
    file.sizes["most"][0] = 1 << 16
    path = tmp_path / "model.lxe"
    path.write_bytes(file.seal())
    with pytest.raises(
        MeasureError, match=r"a session with threads=1 would need 4194[0-9]{3} MB, expected less than 4096"
    ):
        ModelFile(path).session()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe, which nobody writes to, is not waited for."""
    os.mkfifo(tmp_path / "pipe.lxe")
    (tmp_path / "empty.lxe").touch()
    for name in ("pipe.lxe", "empty.lxe", "none.lxe", ""):
        with pytest.raises(MeasureError, match="the engine cannot read it"):
            ModelFile(tmp_path / name)
